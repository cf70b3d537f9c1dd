// MatMul, BatchMatMul, their broadcasting *Ext forms, and Dense. Accumulates in float (double for float64),
// rounds once.
#include <algorithm>
#include <vector>

#include "kernels/basic/elements.h"
#include "kernels/basic/groups.h"

namespace mllm {
namespace {

// a [..., m, k] times b [..., k, n], after transposes; batch axes broadcast.
struct Shape {
  Dims a, b;   // as matrices: a vector a is [1, k], a vector b is [k, 1]
  Dims batch;  // of the result
  int64_t m = 0, n = 0, k = 0;
};

Dims batch_of(const Dims& matrices) {
  return Dims(matrices.begin(), matrices.end() - 2);
}

Shape matmul_shape(const OpArgs& args, bool ta, bool tb) {
  if (args.dtype(0) != args.dtype(1)) args.unsupported("operands of different types");
  if (args.dims(0).empty() || args.dims(1).empty()) args.unsupported("operands of rank 0");
  Shape s{args.dims(0), args.dims(1), {}};
  if (s.a.size() == 1) s.a.insert(s.a.begin(), 1);
  if (s.b.size() == 1) s.b.push_back(1);
  s.m = s.a[s.a.size() - (ta ? 1 : 2)];
  s.k = s.a[s.a.size() - (ta ? 2 : 1)];
  s.n = s.b[s.b.size() - (tb ? 2 : 1)];
  if (s.b[s.b.size() - (tb ? 1 : 2)] != s.k)
    args.invalid("cannot multiply " + dims_text(args.dims(0)) + " by " + dims_text(args.dims(1)));
  s.batch = broadcast_dims(args, batch_of(s.a), batch_of(s.b));
  return s;
}

// MatMul and BatchMatMul say whether each matrix is stored transposed; Dense multiplies by a transposed
// weight.
struct Transposes {
  bool a = false, b = false;
};

Transposes transposes(const OpArgs& args) {
  if (args.node().op == "Dense") return {false, true};
  if (args.node().op.ends_with("Ext")) return {};
  const auto flag = [&](size_t operand, const char* name) {
    return args.count() > operand ? args.bool_at(operand) : args.attribute_int(name, 0) != 0;
  };
  return {flag(2, "transpose_a"), flag(3, "transpose_b")};
}

std::vector<TensorType> infer(const OpArgs& args) {
  if (!is_float(args.dtype(0)) && args.dtype(0) != DType::Int32 && args.dtype(0) != DType::Int64) {
    args.unsupported(std::string("operands of type ") + dtype_name(args.dtype(0)));
  }
  const Transposes t = transposes(args);
  const Shape s = matmul_shape(args, t.a, t.b);
  Dims dims = s.batch;
  if (args.dims(0).size() > 1) dims.push_back(s.m);
  if (args.dims(1).size() > 1) dims.push_back(s.n);
  return {{args.dtype(0), dims}};
}

std::vector<TensorType> infer_matmul(const OpArgs& args) {
  if (args.dims(0).size() != 2 || args.dims(1).size() != 2)
    args.unsupported("operands that are not matrices");
  return infer(args);
}

std::vector<TensorType> infer_batch_matmul(const OpArgs& args) {
  if (args.dims(0).size() < 2 || args.dims(1).size() < 2) args.unsupported("operands of rank below 2");
  return infer(args);
}

bool has_bias(const OpArgs& args) {
  return args.node().op == "Dense" && args.count() > 2 && !args.is_none(2);
}

std::vector<TensorType> infer_dense(const OpArgs& args) {
  if (args.dims(1).size() != 2) args.unsupported("a weight that is not a matrix");
  const auto types = infer(args);
  if (has_bias(args) && (args.dtype(2) != args.dtype(0) || args.dims(2) != Dims{args.dims(1)[0]}))
    args.unsupported("a bias that is not one number of the operands' type for each output");
  return types;
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

void run(const OpArgs& args, const RunContext& context) {
  const Transposes t = transposes(args);
  const Shape s = matmul_shape(args, t.a, t.b);
  const Tensor& a = context.in(args.node(), 0);
  const Tensor& b = context.in(args.node(), 1);
  const Tensor& y = context.out(args.node(), 0);
  if (y.size() == 0) return;
  const Dims strides[2] = {broadcast_strides(batch_of(s.a), s.batch),
                           broadcast_strides(batch_of(s.b), s.batch)};
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
    if constexpr (!std::is_same_v<T, Bool>) {
      const T* bias = has_bias(args) ? context.in(args.node(), 2).as<const T>() : nullptr;
      context.pool.parallel_for(batches * s.m, 1, [&](int64_t begin, int64_t end) {
        std::vector<C> acc(static_cast<size_t>(s.n));
        for (int64_t r = begin; r < end; ++r) {
          const auto [ia, ib] = offsets[static_cast<size_t>(r / s.m)];
          const int64_t row = r % s.m;
          const T* pa = a.as<const T>() + ia * s.m * s.k + (t.a ? row : row * s.k);
          multiply_row<T, C>(pa, t.a ? s.m : 1, b.as<const T>() + ib * s.k * s.n, t.b, s.n, s.k, acc.data());
          for (int64_t j = 0; bias && j < s.n; ++j)
            acc[static_cast<size_t>(j)] += static_cast<C>(Element<T>::load(bias[j]));
          for (int64_t j = 0; j < s.n; ++j) {
            y.as<T>()[r * s.n + j] = Element<T>::store(static_cast<Compute<T>>(acc[static_cast<size_t>(j)]));
          }
        }
      });
    }
  });
}

constexpr Operator kTable[] = {
    {"MatMul", infer_matmul, run}, {"BatchMatMul", infer_batch_matmul, run},
    {"MatMulExt", infer, run},     {"BatchMatMulExt", infer_batch_matmul, run},
    {"Dense", infer_dense, run},
};

}  // namespace

std::span<const Operator> matmul_operators() {
  return kTable;
}

}  // namespace mllm
