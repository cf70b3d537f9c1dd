// The C interface of bundles.
#include <cstddef>
#include <memory>

#include "api/errors.h"
#include "api/handles.h"
#include "api/structs.h"

using mllm::api::guard;
using mllm::api::require;

namespace {

mllm::Priority priority_of(mllm_priority priority) {
  switch (priority) {
    case MLLM_PRIORITY_NORMAL:
      return mllm::Priority::Normal;
    case MLLM_PRIORITY_LOW:
      return mllm::Priority::Low;
    case MLLM_PRIORITY_HIGH:
      return mllm::Priority::High;
  }
  mllm::fail_argument("mllm_model_options.priority is none of mllm_priority");
}

}  // namespace

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
    wanted.max_memory = given.max_memory;
    wanted.cores = given.cores ? given.cores : "";
    if (given.cores && wanted.cores.empty()) mllm::parse_cores("");  // throws
    wanted.priority = priority_of(given.priority);
    wanted.tokens_only = given.tokens_only != 0;
    if (given.on_progress) {
      wanted.on_progress = [&given](uint64_t done, uint64_t all) {
        given.on_progress(given.user, done, all);
      };
    }
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

mllm_status mllm_model_get_memory(const mllm_model* model, mllm_model_memory* memory) {
  return guard([&] {
    require(model, "model");
    require(memory, "memory");
    const mllm::Model& m = model->bundle->model();
    const mllm::Model::Memory& known = m.memory();
    const bool limited = known.limit != 0;
    mllm_model_memory out{};
    out.context = m.manifest().max_seq_len;
    out.bundle_context = limited ? known.needs.context : out.context;
    out.prefill_chunk = m.manifest().prefill_chunk;
    out.bundle_prefill_chunk = limited ? known.needs.chunk : out.prefill_chunk;
    out.max_memory = known.limit;
    out.peak = known.plan.peak;
    out.text = known.text.c_str();
    mllm::api::write_struct(memory, out, sizeof(mllm_model_memory), "mllm_model_memory");
  });
}

const char* mllm_model_manifest(const mllm_model* model) {
  return model ? model->bundle->model().manifest().text.c_str() : "";
}
}
