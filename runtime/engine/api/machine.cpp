// The C interface of the machine's measured speed.
#include "api/errors.h"
#include "kernels/matmul/machine_speed.h"

using mllm::api::guard;
using mllm::api::require;

extern "C" {

mllm_status mllm_measure_machine(int32_t threads, mllm_machine_speed* speed) {
  return guard([&] {
    require(speed, "speed");
    const mllm::MachineSpeed measured = mllm::measure_machine(threads);
    *speed = {measured.read_bandwidth, measured.int8_macs, measured.matrix_macs};
  });
}
}
