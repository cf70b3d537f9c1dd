// What the opaque handles of the C interface are.
#ifndef MINDIR_LLM_API_HANDLES_H_
#define MINDIR_LLM_API_HANDLES_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "session/model.h"
#include "session/session.h"

struct mllm_model {
  std::unique_ptr<mllm::Model> model;
};

struct mllm_session {
  mllm::Session session;
  std::vector<uint8_t> saved = {};  // what mllm_session_save handed out
};

#endif  // MINDIR_LLM_API_HANDLES_H_
