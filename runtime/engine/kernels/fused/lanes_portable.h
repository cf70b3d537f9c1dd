// Lanes that every machine has and the compiler knows: vectors of four floats. Included once per file;
// everything stays in its unnamed namespace.

#include <cstring>

#include "base/half.h"
#include "kernels/fused/vector.h"

namespace mllm {
namespace {

typedef float V __attribute__((vector_size(16)));
typedef uint32_t Bits __attribute__((vector_size(16)));
constexpr int64_t kLanes = 4;
constexpr int kProductRows = 4;
constexpr int kProductVectors = 2;

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
template <class T>
inline V load_part(const T* p, int64_t count) {
  T buffer[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) buffer[i] = p[i];
  return load(buffer);
}
inline void store(float* p, V v) {
  std::memcpy(p, &v, sizeof(v));
}
inline void store_part(float* p, V v, int64_t count) {
  for (int64_t i = 0; i < count; ++i) p[i] = v[i];
}
inline void store_half_part(uint16_t* p, V v, int64_t count) {
  for (int64_t i = 0; i < count; ++i) p[i] = float_to_half(v[i]);
}
inline void store_half(uint16_t* p, V v) {
  store_half_part(p, v, kLanes);
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
inline float sum(V v) {
  return (v[0] + v[2]) + (v[1] + v[3]);
}
inline V add(V a, V b) {
  return a + b;
}
inline V sub(V a, V b) {
  return a - b;
}
inline V div(V a, V b) {
  return a / b;
}
inline V where_less(V a, V b, V yes, V no) {
  return a < b ? yes : no;
}
inline V max(V a, V b) {
  return where_less(b, a, a, b);
}
inline float highest(V v) {
  float best = v[0];
  for (int i = 1; i < kLanes; ++i) best = v[i] > best ? v[i] : best;
  return best;
}
inline V add_exponent(V p, V t) {
  Bits a, b;
  std::memcpy(&a, &p, sizeof(a));
  std::memcpy(&b, &t, sizeof(b));
  a += b << 23;
  std::memcpy(&p, &a, sizeof(p));
  return p;
}
inline void transpose(V* r) {
  for (int i = 0; i < kLanes; ++i) {
    for (int j = 0; j < i; ++j) {
      const float x = r[i][j];
      r[i][j] = r[j][i];
      r[j][i] = x;
    }
  }
}
template <class T>
inline void load_transposed(const T* rows, int64_t stride, V* out) {
  for (int r = 0; r < kLanes; ++r) out[r] = load(rows + r * stride);
  transpose(out);
}

}  // namespace
}  // namespace mllm
