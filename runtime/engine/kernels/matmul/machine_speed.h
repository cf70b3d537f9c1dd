// What this machine can do at best, measured: the roofline that speeds are compared with.
#ifndef MINDIR_LLM_KERNELS_MATMUL_MACHINE_SPEED_H_
#define MINDIR_LLM_KERNELS_MATMUL_MACHINE_SPEED_H_

namespace mllm {

struct MachineSpeed {
  double read_bandwidth = 0;  // bytes per second, all threads together reading far more than the caches hold
  double int8_macs = 0;    // int8 multiply-accumulates per second of the vector units, all threads together
  double matrix_macs = 0;  // of the matrix unit; 0 where there is none, or MINDIR_LLM_ISA forbids it
};

// Takes about a second, and 512 MiB of memory while it runs.
MachineSpeed measure_machine(int threads);

}  // namespace mllm

#endif  // MINDIR_LLM_KERNELS_MATMUL_MACHINE_SPEED_H_
