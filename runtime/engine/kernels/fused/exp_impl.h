// exp and what is made of it, written once over the vector type of vector_impl.h (see there), which comes
// first. Beyond that it needs:
//   add(a, b), sub(a, b), div(a, b)
//   where_less(a, b, yes, no)  a < b ? yes : no for each lane
//   add_exponent(p, t)         the bits of p plus the bits of t << 23: p * 2^n when the low bits of t hold n
// Every product that is added to something is a written fma, so that all instruction sets that have one agree
// to the last bit.

namespace mllm {
namespace {

// e^x within 1.01 units in the last place. 0 below -87.33, where the result is about to leave the normal
// numbers (a weight of 1e-38 changes no sum, and subnormal operands would cost 100 cycles each), infinity
// above ln(FLT_MAX), NaN for NaN.
//
// x = n ln2 + r with |r| <= ln2 / 2: adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
// ln2 is taken off in two parts, of which the first has 9 bits: n * that is exact for |n| <= 128 even where
// an fma rounds twice. e^r = 1 + r + r^2 q(r), q fitted for the least relative error of e^r, 3e-9, which is a
// twentieth of a rounding.
inline V exp(V x) {
  const V magic = splat(0x1.8p23f);
  const V t = fma(x, splat(0x1.715476p0f), magic);
  const V n = sub(t, magic);
  V r = fma(n, splat(-0x1.63p-1f), x);
  r = fma(n, splat(0x1.bd0106p-13f), r);
  V q = fma(splat(0x1.6a23cep-10f), r, splat(0x1.123a2p-7f));
  q = fma(q, r, splat(0x1.5558f2p-5f));
  q = fma(q, r, splat(0x1.555492p-3f));
  q = fma(q, r, splat(0x1.fffffcp-2f));
  const V p = add(fma(mul(r, r), q, r), splat(1.0f));
  // Both comparisons are false for NaN, which the product then keeps.
  const V finite = where_less(x, splat(0x1.62e43p6f), add_exponent(p, t), mul(x, splat(__builtin_inff())));
  return where_less(x, splat(-87.33f), zero(), finite);
}

void exp_all(const float* x, float* y, int64_t size) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(y + i, exp(load(x + i)));
  if (i < size) store_part(y + i, exp(load_part(x + i, size - i)), size - i);
}

inline V swiglu(V gate, V up) {
  return mul(div(gate, add(splat(1.0f), exp(sub(zero(), gate)))), up);
}

void swiglu_all(const float* gate, const float* up, float* y, int64_t size) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(y + i, swiglu(load(gate + i), load(up + i)));
  if (i < size) {
    const int64_t rest = size - i;
    store_part(y + i, swiglu(load_part(gate + i, rest), load_part(up + i, rest)), rest);
  }
}

}  // namespace
}  // namespace mllm
