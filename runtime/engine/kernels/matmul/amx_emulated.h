// The tile registers of AMX in memory, for tests on machines that have none (MLLM_EMULATE_AMX): the
// intrinsics of the same names, slowly, after Intel's Software Developer's Manual, volume 2. AddressSanitizer
// sees what loads and stores touch, which it does not with the real ones. Included by amx_tiles.h.

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbssd
#undef _tile_dpbsud
#undef _tile_dpbf16ps
#define _tile_loadconfig emulated_tiles().configure
#define _tile_release() emulated_tiles().configure(nullptr)
#define _tile_zero(R) emulated_tiles().clear(R)
#define _tile_loadd(R, FROM, STRIDE) emulated_tiles().load(R, FROM, STRIDE)
#define _tile_stored(R, TO, STRIDE) emulated_tiles().store(R, TO, STRIDE)
#define _tile_dpbssd(R, A, B) emulated_tiles().multiply_bytes<int8_t>(R, A, B)
#define _tile_dpbsud(R, A, B) emulated_tiles().multiply_bytes<uint8_t>(R, A, B)
#define _tile_dpbf16ps(R, A, B) emulated_tiles().multiply_bfloat16(R, A, B)

namespace mllm {
namespace {

class EmulatedTiles {
 public:
  // Null releases the registers: shapes of nothing.
  void configure(const void* shapes) {
    if (shapes == nullptr) {
      __builtin_memset(rows_, 0, sizeof(rows_));
      __builtin_memset(row_bytes_, 0, sizeof(row_bytes_));
    } else {
      __builtin_memcpy(row_bytes_, static_cast<const uint8_t*>(shapes) + 16, sizeof(row_bytes_));
      __builtin_memcpy(rows_, static_cast<const uint8_t*>(shapes) + 48, sizeof(rows_));
    }
    for (int r = 0; r < kRegisters; ++r) clear(r);
  }
  void clear(int r) { __builtin_memset(bytes_[r], 0, sizeof(bytes_[r])); }
  void load(int r, const void* from, int64_t stride) {
    clear(r);
    for (int64_t i = 0; i < rows_[r]; ++i) {
      __builtin_memcpy(bytes_[r][i], static_cast<const uint8_t*>(from) + i * stride, row_bytes_[r]);
    }
  }
  void store(int r, void* to, int64_t stride) const {
    for (int64_t i = 0; i < rows_[r]; ++i) {
      __builtin_memcpy(static_cast<uint8_t*>(to) + i * stride, bytes_[r][i], row_bytes_[r]);
    }
  }
  // Four bytes of a row of a, signed, times four of a column of b.
  template <class B>
  void multiply_bytes(int r, int a, int b) {
    each(r, a, [&](int64_t m, int64_t n, int64_t ks) {
      auto sum = at<uint32_t>(r, m, n);  // wraps around, as the instruction does
      for (int64_t k = 0; k < ks; ++k) {
        for (int64_t j = 0; j < 4; ++j) {
          sum += static_cast<uint32_t>(at<int8_t>(a, m, 4 * k + j) * at<B>(b, k, 4 * n + j));
        }
      }
      put(r, m, n, sum);
    });
  }
  void multiply_bfloat16(int r, int a, int b) {
    each(r, a, [&](int64_t m, int64_t n, int64_t ks) {
      float sum = 0.0f;
      for (int64_t k = 0; k < ks; ++k) {
        for (int64_t j = 0; j < 2; ++j) {
          sum = __builtin_fmaf(bfloat16(a, m, 2 * k + j), bfloat16(b, k, 2 * n + j), sum);
        }
      }
      put(r, m, n, at<float>(r, m, n) + sum);
    });
  }

 private:
  static constexpr int kRegisters = 8;
  static constexpr int64_t kRows = 16, kRowBytes = 64;

  template <class Multiply>
  void each(int r, int a, const Multiply& multiply) {
    for (int64_t m = 0; m < rows_[r]; ++m) {
      for (int64_t n = 0; n < row_bytes_[r] / 4; ++n) multiply(m, n, row_bytes_[a] / 4);
    }
  }
  template <class T>
  T at(int r, int64_t row, int64_t i) const {
    T value;
    __builtin_memcpy(&value, bytes_[r][row] + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    return value;
  }
  template <class T>
  void put(int r, int64_t row, int64_t i, T value) {
    __builtin_memcpy(bytes_[r][row] + i * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
  }
  float bfloat16(int r, int64_t row, int64_t i) const {
    const uint32_t bits = static_cast<uint32_t>(at<uint16_t>(r, row, i)) << 16;
    float value;
    __builtin_memcpy(&value, &bits, sizeof(value));
    return value;
  }

  uint8_t bytes_[kRegisters][kRows][kRowBytes] = {};
  uint16_t row_bytes_[16] = {};
  uint8_t rows_[16] = {};
};

inline EmulatedTiles& emulated_tiles() {
  thread_local EmulatedTiles tiles;
  return tiles;
}

}  // namespace
}  // namespace mllm
