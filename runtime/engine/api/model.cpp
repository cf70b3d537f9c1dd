// The C interface of bundles.
#include <cstddef>
#include <memory>

#include "api/errors.h"
#include "api/handles.h"
#include "api/structs.h"

using mllm::api::guard;
using mllm::api::require;

extern "C" {

mllm_status mllm_model_open(const char* path, const mllm_model_options* options, mllm_model** model) {
  return guard([&] {
    require(path, "path");
    require(model, "model");
    *model = nullptr;
    constexpr size_t kFirst = offsetof(mllm_model_options, exact);
    const mllm_model_options given = mllm::api::read_struct(options, kFirst, "mllm_model_options");
    mllm::ModelOptions wanted;
    wanted.threads = given.threads;
    wanted.verify_weights = given.verify_weights != 0;
    wanted.exact = given.exact != 0;
    *model = new mllm_model{std::make_shared<mllm::Bundle>(path, wanted)};
  });
}

void mllm_model_close(mllm_model* model) {
  delete model;
}

mllm_status mllm_model_get_info(const mllm_model* model, mllm_model_info* info) {
  return guard([&] {
    require(model, "model");
    require(info, "info");
    const mllm::Model& m = model->bundle->model();
    *info = {.batch_size = m.manifest().batch_size,
             .max_seq_len = m.manifest().max_seq_len,
             .prefill_chunk = m.manifest().prefill_chunk,
             .vocab_size = m.manifest().vocab_size,
             .num_layers = m.manifest().num_layers,
             .threads = m.pool().threads(),
             .fused = m.is_fused() ? 1 : 0,
             .weight_bytes = m.weight_bytes(),
             .kv_cache_bytes = m.kv_cache_bytes()};
  });
}

const char* mllm_model_manifest(const mllm_model* model) {
  return model ? model->bundle->model().manifest().text.c_str() : "";
}
}
