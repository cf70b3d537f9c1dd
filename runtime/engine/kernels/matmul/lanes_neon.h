// The vector types of matmul_impl.h with NEON as every 64-bit ARM processor has it. Included once per file;
// everything stays in its unnamed namespace.
#include <arm_neon.h>

#include "kernels/matmul/matmul.h"

namespace mllm {
namespace {

using V = float32x4_t;
using VI = int32x4_t;
constexpr int64_t kLanes = 4;
// 6 x 4 accumulators, 4 weights and a broadcast of 32 registers.
constexpr int kRows = 6;
constexpr int kBlocks = 1;

inline V zero() {
  return vdupq_n_f32(0.0f);
}
inline V splat(float f) {
  return vdupq_n_f32(f);
}
inline V load(const float* p) {
  return vld1q_f32(p);
}
inline V load(const uint16_t* p) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
inline V load(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  const int16x8_t words = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(words)));
}
inline void store(float* p, V v) {
  vst1q_f32(p, v);
}
inline void store_part(float* p, V v, int64_t count) {
  float buffer[kLanes];
  store(buffer, v);
  for (int64_t i = 0; i < count; ++i) p[i] = buffer[i];
}
inline V fma(V a, V b, V c) {
  return vfmaq_f32(c, a, b);
}
inline V mul(V a, V b) {
  return vmulq_f32(a, b);
}
inline V add(V a, V b) {
  return vaddq_f32(a, b);
}
inline V absolute(V v) {
  return vabsq_f32(v);
}
inline V maximum(V a, V b) {
  return vbslq_f32(vcgtq_f32(a, b), a, b);
}
inline float reduce_max(V v) {
  return vmaxvq_f32(v);
}
inline VI load_bytes(const uint8_t* p) {
  return vreinterpretq_s32_u8(vld1q_u8(p));
}
inline void store_bytes(uint8_t* p, VI v) {
  vst1q_u8(p, vreinterpretq_u8_s32(v));
}
inline VI splat_int(int32_t i) {
  return vdupq_n_s32(i);
}
inline V to_float(VI v) {
  return vcvtq_f32_s32(v);
}
inline VI add_int(VI a, VI b) {
  return vaddq_s32(a, b);
}
inline VI add_bytes(VI a, VI b) {
  return vreinterpretq_s32_u8(vaddq_u8(vreinterpretq_u8_s32(a), vreinterpretq_u8_s32(b)));
}
inline VI round_to_int(V v) {
  return vcvtnq_s32_f32(v);
}
inline int32_t sum_int(VI v) {
  return vaddvq_s32(v);
}
inline void store_int8(int8_t* p, VI v) {
  const int16x4_t words = vqmovn_s32(v);
  const int32x2_t bytes = vreinterpret_s32_s8(vqmovn_s16(vcombine_s16(words, words)));
  const int32_t four = vget_lane_s32(bytes, 0);
  __builtin_memcpy(p, &four, 4);
}
inline VI low_nibbles(VI v) {
  return vreinterpretq_s32_u8(vandq_u8(vreinterpretq_u8_s32(v), vdupq_n_u8(15)));
}
inline VI high_nibbles(VI v) {
  return vreinterpretq_s32_u8(vshrq_n_u8(vreinterpretq_u8_s32(v), 4));
}
inline VI scale_shorts(VI a, VI b) {
  return vreinterpretq_s32_s16(vqrdmulhq_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)));
}
inline V bytes_to_float(VI v, int i) {
  const uint32x4_t shifted = vshlq_u32(vreinterpretq_u32_s32(v), vdupq_n_s32(-8 * i));
  return vcvtq_f32_u32(vandq_u32(shifted, vdupq_n_u32(255)));
}
// Always inline: GCC 12 takes a function that only prefetches for one without effect and drops calls of it.
__attribute__((always_inline)) inline void prefetch(const void* p) {
  __builtin_prefetch(p);
}

// Stored weights less 128.
inline int8x16_t signed_weights(VI weights) {
  return vreinterpretq_s8_u8(veorq_u8(vreinterpretq_u8_s32(weights), vdupq_n_u8(128)));
}
// Four activations, once per lane.
inline int8x16_t repeat(int32_t activations) {
  return vreinterpretq_s8_s32(vdupq_n_s32(activations));
}

}  // namespace
}  // namespace mllm
