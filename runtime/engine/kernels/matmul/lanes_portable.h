// Lanes that every machine has and the compiler knows: vectors of four elements. Included once per file;
// everything stays in its unnamed namespace.

#include <cmath>
#include <cstring>

#include "base/half.h"
#include "kernels/matmul/matmul.h"

namespace mllm {
namespace {

typedef float V __attribute__((vector_size(16)));
typedef int32_t VI __attribute__((vector_size(16)));
typedef uint32_t VU __attribute__((vector_size(16)));
typedef uint8_t Bytes __attribute__((vector_size(16)));
constexpr int64_t kLanes = 4;
constexpr int kRows = 4;
constexpr int kBlocks = 1;
constexpr bool kDot8KeepsOffset = true;
constexpr bool kDot8IsWide = true;

inline V splat(float f) {
  return V{f, f, f, f};
}
inline V zero() {
  return splat(0.0f);
}
inline V load(const float* p) {
  V v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
inline V load(const uint16_t* p) {
  return V{half_to_float(p[0]), half_to_float(p[1]), half_to_float(p[2]), half_to_float(p[3])};
}
inline V load(const int8_t* p) {
  return V{static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]),
           static_cast<float>(p[3])};
}
inline void store(float* p, V v) {
  std::memcpy(p, &v, sizeof(v));
}
inline void store_part(float* p, V v, int64_t count) {
  for (int64_t i = 0; i < count; ++i) p[i] = v[i];
}
// Where the base instruction set has one (RISC-V), results are those of the sets for one machine.
inline V fma(V a, V b, V c) {
#if defined(__FP_FAST_FMAF)
  for (int64_t i = 0; i < kLanes; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
#else
  return a * b + c;
#endif
}
inline V mul(V a, V b) {
  return a * b;
}
inline V add(V a, V b) {
  return a + b;
}
inline V absolute(V v) {
  for (int64_t i = 0; i < kLanes; ++i) v[i] = std::fabs(v[i]);
  return v;
}
inline V maximum(V a, V b) {
  for (int64_t i = 0; i < kLanes; ++i) a[i] = a[i] > b[i] ? a[i] : b[i];
  return a;
}
inline float reduce_max(V v) {
  const float a = v[0] > v[1] ? v[0] : v[1];
  const float b = v[2] > v[3] ? v[2] : v[3];
  return a > b ? a : b;
}
inline VI load_bytes(const uint8_t* p) {
  VI v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
inline void store_bytes(uint8_t* p, VI v) {
  std::memcpy(p, &v, sizeof(v));
}
inline VI splat_int(int32_t i) {
  return VI{i, i, i, i};
}
inline V to_float(VI v) {
  return __builtin_convertvector(v, V);
}
inline VI add_int(VI a, VI b) {
  return a + b;
}
inline VI add_bytes(VI a, VI b) {
  return reinterpret_cast<VI>(reinterpret_cast<Bytes>(a) + reinterpret_cast<Bytes>(b));
}
// Values are within 2^24, or not finite.
inline VI round_to_int(V v) {
  VI out;
  for (int64_t i = 0; i < kLanes; ++i) {
    out[i] = std::fabs(v[i]) <= 16777216.0f ? static_cast<int32_t>(std::nearbyint(v[i])) : 0;
  }
  return out;
}
inline int32_t sum_int(VI v) {
  return v[0] + v[1] + v[2] + v[3];
}
inline void store_int8(int8_t* p, VI v) {
  for (int64_t i = 0; i < kLanes; ++i) p[i] = static_cast<int8_t>(v[i]);
}
inline VI shift_right(VI v, int bits) {
  return reinterpret_cast<VI>(reinterpret_cast<VU>(v) >> static_cast<uint32_t>(bits));
}
inline VI low_nibbles(VI v) {
  return v & splat_int(0x0f0f0f0f);
}
inline VI high_nibbles(VI v) {
  return low_nibbles(shift_right(v, 4));
}
inline VI scale_shorts(VI a, VI b) {
  int16_t x[2 * kLanes], y[2 * kLanes];
  std::memcpy(x, &a, sizeof(x));
  std::memcpy(y, &b, sizeof(y));
  for (int64_t i = 0; i < 2 * kLanes; ++i) x[i] = static_cast<int16_t>((x[i] * y[i] + (1 << 14)) >> 15);
  std::memcpy(&a, x, sizeof(x));
  return a;
}
inline V bytes_to_float(VI v, int i) {
  return to_float(shift_right(v, 8 * i) & splat_int(255));
}
inline VI dot8(VI sum, VI weights, int32_t activations) {
  for (int i = 0; i < 4; ++i) {
    sum += (shift_right(weights, 8 * i) & splat_int(255)) *
           splat_int(static_cast<int8_t>(static_cast<uint32_t>(activations) >> (8 * i)));
  }
  return sum;
}
inline VI dot8_wide(VI sum, VI weights, int32_t activations) {
  return dot8(sum, weights, activations);
}
inline VI dot4(VI sum, VI weights, int32_t activations) {
  return dot8(sum, weights, activations);
}
// Always inline: GCC 12 takes a function that only prefetches for one without effect and drops calls of it.
__attribute__((always_inline)) inline void prefetch(const void* p) {
  __builtin_prefetch(p);
}

}  // namespace
}  // namespace mllm
