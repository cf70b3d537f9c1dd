// The registers of AMX as both kinds of products use them. For files that are compiled for it, each of which
// includes this once.

namespace mllm {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileBytes = 1024;  // 16 rows of 64 bytes
// Panels whose sums share the second-level cache (32 KiB each with 256 rows) with a step's activations.
constexpr int64_t kPanelsAtOnce = kMostPanelsAtOnce;

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

// Asks for what is used next, a share at a time, while something else is computed: the same piece of both
// blocks of a panel.
class ReadAhead {
 public:
  ReadAhead() = default;
  ReadAhead(const WeightView& w, int64_t panel, int64_t begin, int64_t end, int64_t shares)
      : at_(w.blocks + 2 * panel * w.block_bytes + begin),
        second_(at_ + w.block_bytes),
        bytes_(end - begin),
        left_(2 * bytes_),
        share_((left_ / shares + 63) / 64 * 64) {}

  __attribute__((always_inline)) void share() {
    for (int64_t i = 0; i < share_ && left_ > 0; i += 64, at_ += 64, left_ -= 64) {
      if (left_ <= bytes_ && second_) {
        at_ = second_;
        second_ = nullptr;
      }
      _mm_prefetch(reinterpret_cast<const char*>(at_), _MM_HINT_T1);
    }
  }

 private:
  const uint8_t* at_ = nullptr;
  const uint8_t* second_ = nullptr;
  int64_t bytes_ = 0, left_ = 0, share_ = 0;
};

}  // namespace
}  // namespace mllm
