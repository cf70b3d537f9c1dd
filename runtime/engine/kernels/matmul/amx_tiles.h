// The registers of AMX as all its products use them. For files that are compiled for it, each of which
// includes this once, after its vector types.
#if defined(MLLM_EMULATE_AMX)
#include "kernels/matmul/amx_emulated.h"
#endif

namespace mllm {
namespace {

constexpr int64_t kTileRows = 16;

struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// GCC's tile loads do not tell the compiler that they read memory: what they are to read must be there
// before.
inline void settle_memory(const void* p) {
  asm volatile("" : : "r"(p) : "memory");
}

// Registers 0-3 are sums (rows x columns), 4 and 5 activations (rows x k), 6 and 7 weights (k/4 x columns*4).
void configure(int64_t step) {
  TileShapes shapes;
  for (int i = 0; i < 4; ++i) {
    shapes.rows[i] = 16;
    shapes.row_bytes[i] = 64;
  }
  for (int i = 4; i < 6; ++i) {
    shapes.rows[i] = 16;
    shapes.row_bytes[i] = static_cast<uint16_t>(step);
  }
  for (int i = 6; i < 8; ++i) {
    shapes.rows[i] = static_cast<uint8_t>(step / 4);
    shapes.row_bytes[i] = 64;
  }
  settle_memory(&shapes);
  _tile_loadconfig(&shapes);
}

}  // namespace
}  // namespace mllm
