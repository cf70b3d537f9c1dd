// NEON as every 64-bit ARM processor has it.
#if defined(__aarch64__)
#include <arm_neon.h>

#include "kernels/fused/vector.h"

namespace mllm {
namespace {

using V = float32x4_t;
constexpr int64_t kLanes = 4;
constexpr int kProductRows = 6;  // 6 x 4 accumulators, 4 vectors of b, 1 number of a of 32 registers
constexpr int kProductVectors = 4;

inline V splat(float f) {
  return vdupq_n_f32(f);
}
inline V zero() {
  return splat(0.0f);
}
inline V load(const float* p) {
  return vld1q_f32(p);
}
inline V load(const uint16_t* p) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
inline V load(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, sizeof(four));
  const int8x8_t bytes = vreinterpret_s8_s32(vdup_n_s32(four));
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))));
}
template <class T>
inline V load_part(const T* p, int64_t count) {
  T buffer[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) buffer[i] = p[i];
  return load(buffer);
}
inline void store(float* p, V v) {
  vst1q_f32(p, v);
}
inline void store_part(float* p, V v, int64_t count) {
  float buffer[kLanes];
  store(buffer, v);
  for (int64_t i = 0; i < count; ++i) p[i] = buffer[i];
}
inline void store_half(uint16_t* p, V v) {
  vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v)));
}
inline void store_half_part(uint16_t* p, V v, int64_t count) {
  uint16_t buffer[kLanes];
  store_half(buffer, v);
  for (int64_t i = 0; i < count; ++i) p[i] = buffer[i];
}
inline V fma(V a, V b, V c) {
  return vfmaq_f32(c, a, b);
}
inline V mul(V a, V b) {
  return vmulq_f32(a, b);
}
inline float sum(V v) {
  const float32x2_t half = vadd_f32(vget_low_f32(v), vget_high_f32(v));
  return vget_lane_f32(half, 0) + vget_lane_f32(half, 1);
}
inline V add(V a, V b) {
  return vaddq_f32(a, b);
}
inline V sub(V a, V b) {
  return vsubq_f32(a, b);
}
inline V div(V a, V b) {
  return vdivq_f32(a, b);
}
// Not FMAXNM, which makes a NaN of a signalling one.
inline V max(V a, V b) {
  return vbslq_f32(vcgtq_f32(a, b), a, b);
}
inline float highest(V v) {
  return vmaxvq_f32(v);
}
inline V where_less(V a, V b, V yes, V no) {
  return vbslq_f32(vcltq_f32(a, b), yes, no);
}
inline V add_exponent(V p, V t) {
  return vreinterpretq_f32_s32(
      vaddq_s32(vreinterpretq_s32_f32(p), vshlq_n_s32(vreinterpretq_s32_f32(t), 23)));
}
inline V join(float64x2_t v) {
  return vreinterpretq_f32_f64(v);
}
inline void transpose(V* r) {
  const auto a = vreinterpretq_f64_f32(vtrn1q_f32(r[0], r[1]));
  const auto b = vreinterpretq_f64_f32(vtrn2q_f32(r[0], r[1]));
  const auto c = vreinterpretq_f64_f32(vtrn1q_f32(r[2], r[3]));
  const auto d = vreinterpretq_f64_f32(vtrn2q_f32(r[2], r[3]));
  r[0] = join(vzip1q_f64(a, c));
  r[1] = join(vzip1q_f64(b, d));
  r[2] = join(vzip2q_f64(a, c));
  r[3] = join(vzip2q_f64(b, d));
}
template <class T>
inline void load_transposed(const T* rows, int64_t stride, V* out) {
#pragma GCC unroll 4
  for (int r = 0; r < kLanes; ++r) out[r] = load(rows + r * stride);
  transpose(out);
}

}  // namespace
}  // namespace mllm

#include "kernels/fused/vector_impl.h"

namespace mllm {

const VectorKernels& neon_kernels() {
  return kKernels;
}

}  // namespace mllm
#endif
