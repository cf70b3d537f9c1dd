// The C interface of sessions.
#include <memory>
#include <vector>

#include "api/errors.h"
#include "api/handles.h"

using mllm::api::guard;
using mllm::api::require;
using mllm::api::Usage;

extern "C" {

mllm_status mllm_session_create(mllm_model* model, mllm_session** session) {
  return guard([&] {
    require(model, "model");
    require(session, "session");
    *session = nullptr;
    *session = new mllm_session{std::make_shared<mllm::api::SessionState>(model->bundle)};
  });
}

void mllm_session_close(mllm_session* session) {
  if (!session) return;
  const auto state = session->state;
  state->usage.close();
  delete session;
}

void mllm_session_cancel(mllm_session* session) {
  if (session) session->state->usage.cancel();
}

mllm_status mllm_session_feed(mllm_session* session, const mllm_segment* segments, size_t n_segments) {
  return guard([&] {
    require(session, "session");
    require(segments, "segments");
    std::vector<mllm::Feed> feeds;
    for (size_t i = 0; i < n_segments; ++i) {
      require(segments[i].tokens, "segment.tokens");
      if (segments[i].n_tokens < 1) mllm::fail_argument("segment.n_tokens must be at least 1");
      feeds.push_back({segments[i].slot, {segments[i].tokens, static_cast<size_t>(segments[i].n_tokens)}});
    }
    const auto state = session->state;
    const Usage::Call call(state->usage);
    state->session.feed(feeds);
  });
}

mllm_status mllm_session_position(const mllm_session* session, int32_t slot, int32_t* position) {
  return guard([&] {
    require(session, "session");
    require(position, "position");
    const auto state = session->state;
    const Usage::Call call(state->usage);
    *position = state->session.position(slot);
  });
}

mllm_status mllm_session_rewind(mllm_session* session, int32_t slot, int32_t position) {
  return guard([&] {
    require(session, "session");
    const auto state = session->state;
    const Usage::Call call(state->usage);
    state->session.rewind(slot, position);
  });
}

mllm_status mllm_session_save(mllm_session* session, int32_t slot, const void** data, size_t* size) {
  return guard([&] {
    require(session, "session");
    require(data, "data");
    require(size, "size");
    const auto state = session->state;
    const Usage::Call call(state->usage);
    state->saved = state->session.save(slot);
    *data = state->saved.data();
    *size = state->saved.size();
  });
}

mllm_status mllm_session_restore(mllm_session* session, int32_t slot, const void* data, size_t size) {
  return guard([&] {
    require(session, "session");
    require(data, "data");
    const auto state = session->state;
    const Usage::Call call(state->usage);
    state->session.restore(slot, {static_cast<const uint8_t*>(data), size});
  });
}

mllm_status mllm_session_set_profiling(mllm_session* session, int32_t on) {
  return guard([&] {
    require(session, "session");
    const auto state = session->state;
    const Usage::Call call(state->usage);
    state->session.set_profiling(on != 0);
  });
}

mllm_status mllm_session_profile(mllm_session* session, const char** json) {
  return guard([&] {
    require(session, "session");
    require(json, "json");
    const auto state = session->state;
    const Usage::Call call(state->usage);
    *json = state->session.profile_json().c_str();
  });
}

mllm_status mllm_session_logits(const mllm_session* session, int32_t slot, const float** logits) {
  return guard([&] {
    require(session, "session");
    require(logits, "logits");
    const auto state = session->state;
    const Usage::Call call(state->usage);
    *logits = state->session.logits(slot).data();
  });
}
}
