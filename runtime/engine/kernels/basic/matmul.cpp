// MatMul, BatchMatMul and their broadcasting *Ext forms. Accumulates in float (double for float64), rounds
// once.
#include <algorithm>
#include <vector>

#include "kernels/basic/elements.h"
#include "kernels/basic/groups.h"

namespace mllm {
namespace {

struct Shape {
  Dims batch;  // of the result
  int64_t m = 0, n = 0, k = 0;
};

bool transposed(const OpArgs& args, size_t operand) {
  if (args.count() > operand) return args.bool_at(operand);
  return args.attribute_int(operand == 2 ? "transpose_a" : "transpose_b", 0) != 0;
}

Shape matmul_shape(const OpArgs& args, bool ta, bool tb) {
  const Dims& a = args.dims(0);
  const Dims& b = args.dims(1);
  if (args.dtype(0) != args.dtype(1)) args.unsupported("operands of different types");
  if (a.size() < 2 || b.size() < 2) args.unsupported("operands of rank below 2");
  Shape s;
  s.m = a[a.size() - (ta ? 1 : 2)];
  s.k = a[a.size() - (ta ? 2 : 1)];
  s.n = b[b.size() - (tb ? 2 : 1)];
  if (b[b.size() - (tb ? 1 : 2)] != s.k)
    args.invalid("cannot multiply " + dims_text(a) + " by " + dims_text(b));
  s.batch = broadcast_dims(args, Dims(a.begin(), a.end() - 2), Dims(b.begin(), b.end() - 2));
  return s;
}

std::vector<TensorType> infer_with(const OpArgs& args, bool ta, bool tb) {
  if (!is_float(args.dtype(0)) && args.dtype(0) != DType::Int32 && args.dtype(0) != DType::Int64) {
    args.unsupported(std::string("operands of type ") + dtype_name(args.dtype(0)));
  }
  const Shape s = matmul_shape(args, ta, tb);
  Dims dims = s.batch;
  dims.push_back(s.m);
  dims.push_back(s.n);
  return {{args.dtype(0), dims}};
}

std::vector<TensorType> infer_matmul(const OpArgs& args) {
  if (args.dims(0).size() != 2 || args.dims(1).size() != 2)
    args.unsupported("operands that are not matrices");
  return infer_with(args, transposed(args, 2), transposed(args, 3));
}
std::vector<TensorType> infer_batch_matmul(const OpArgs& args) {
  return infer_with(args, transposed(args, 2), transposed(args, 3));
}
std::vector<TensorType> infer_ext(const OpArgs& args) {
  return infer_with(args, false, false);
}

// One row of a result: acc[n] = sum over k of a[k] * b[k][n]. b is read along its rows whichever way it is
// stored.
template <class T, class C>
void multiply_row(const T* a, int64_t a_step, const T* b, bool b_transposed, int64_t n, int64_t k, C* acc) {
  if (b_transposed) {
    for (int64_t j = 0; j < n; ++j) {
      const T* row = b + j * k;
      // Eight partial sums break the dependency chain and keep rounding errors small.
      C part[8] = {};
      int64_t i = 0;
      for (; i + 8 <= k; i += 8) {
        for (int64_t l = 0; l < 8; ++l)
          part[l] += Element<T>::load(a[(i + l) * a_step]) * Element<T>::load(row[i + l]);
      }
      for (; i < k; ++i) part[0] += Element<T>::load(a[i * a_step]) * Element<T>::load(row[i]);
      acc[j] = ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
    }
    return;
  }
  std::fill_n(acc, n, C(0));
  for (int64_t i = 0; i < k; ++i) {
    const C x = Element<T>::load(a[i * a_step]);
    const T* row = b + i * n;
    for (int64_t j = 0; j < n; ++j) acc[j] += x * Element<T>::load(row[j]);
  }
}

void multiply(const OpArgs& args, const RunContext& context, bool ta, bool tb) {
  const Shape s = matmul_shape(args, ta, tb);
  const Tensor& a = context.in(args.node(), 0);
  const Tensor& b = context.in(args.node(), 1);
  const Tensor& y = context.out(args.node(), 0);
  const Dims a_batch(a.dims.begin(), a.dims.end() - 2);
  const Dims b_batch(b.dims.begin(), b.dims.end() - 2);
  const Dims strides[2] = {broadcast_strides(a_batch, s.batch), broadcast_strides(b_batch, s.batch)};
  const int64_t batches = numel(s.batch);
  std::vector<std::pair<int64_t, int64_t>> offsets;  // of each batch, in matrices
  Walker<2> walk(s.batch, strides);
  for (int64_t i = 0; i < batches; ++i) {
    offsets.emplace_back(walk.offset(0), walk.offset(1));
    walk.step();
  }
  visit_dtype(args, y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    // Integer products wrap; unsigned arithmetic makes that defined.
    using C = std::conditional_t<std::is_integral_v<T>, uint64_t, Compute<T>>;
    if constexpr (!std::is_same_v<T, bool>) {
      context.pool.parallel_for(batches * s.m, 1, [&](int64_t begin, int64_t end) {
        std::vector<C> acc(static_cast<size_t>(s.n));
        for (int64_t r = begin; r < end; ++r) {
          const auto [ia, ib] = offsets[static_cast<size_t>(r / s.m)];
          const int64_t row = r % s.m;
          const T* pa = a.as<const T>() + ia * s.m * s.k + (ta ? row : row * s.k);
          multiply_row<T, C>(pa, ta ? s.m : 1, b.as<const T>() + ib * s.k * s.n, tb, s.n, s.k, acc.data());
          for (int64_t j = 0; j < s.n; ++j) {
            y.as<T>()[r * s.n + j] = Element<T>::store(static_cast<Compute<T>>(acc[static_cast<size_t>(j)]));
          }
        }
      });
    }
  });
}

void run_matmul(const OpArgs& args, const RunContext& context) {
  multiply(args, context, transposed(args, 2), transposed(args, 3));
}
void run_ext(const OpArgs& args, const RunContext& context) {
  multiply(args, context, false, false);
}

constexpr Operator kTable[] = {
    {"MatMul", infer_matmul, run_matmul},
    {"BatchMatMul", infer_batch_matmul, run_matmul},
    {"MatMulExt", infer_ext, run_ext},
    {"BatchMatMulExt", infer_ext, run_ext},
};

}  // namespace

std::span<const Operator> matmul_operators() {
  return kTable;
}

}  // namespace mllm
