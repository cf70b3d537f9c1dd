// MatMul, BatchMatMul, their broadcasting *Ext forms, and Dense. Accumulates in float (double for float64),
// rounds once.
#include <algorithm>
#include <vector>

#include "kernels/basic/blocks.h"
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

// Integer products wrap; unsigned arithmetic makes that defined.
template <class C>
C multiply_add(C x, C y, C sum) {
  using Wrapping = std::conditional_t<std::is_integral_v<C>, uint64_t, C>;
  return static_cast<C>(static_cast<Wrapping>(sum) + static_cast<Wrapping>(x) * static_cast<Wrapping>(y));
}

template <class C>
C dot(const C* a, const C* b, int64_t k) {
  // Eight partial sums break the dependency chain and keep rounding errors small.
  C part[8] = {};
  int64_t i = 0;
  for (; i + 8 <= k; i += 8) {
    for (int64_t l = 0; l < 8; ++l) part[l] = multiply_add(a[i + l], b[i + l], part[l]);
  }
  for (; i < k; ++i) part[0] = multiply_add(a[i], b[i], part[0]);
  const auto sum = [](C x, C y) { return multiply_add(x, C{1}, y); };
  return sum(sum(sum(part[0], part[1]), sum(part[2], part[3])),
             sum(sum(part[4], part[5]), sum(part[6], part[7])));
}

// One row of a result: acc[n] = sum over k of a[k] * b[k][n]. b, from its element `start` on, is read along
// its rows whichever way it is stored; `row` holds one that has to be converted.
template <class C>
void multiply_row(const C* a, const Tensor& b, int64_t start, bool b_transposed, int64_t n, int64_t k, C* row,
                  C* acc) {
  if (b_transposed) {
    for (int64_t j = 0; j < n; ++j) acc[j] = dot(a, line_of(b, start + j * k, 1, k, row), k);
    return;
  }
  std::fill_n(acc, n, C(0));
  for (int64_t i = 0; i < k; ++i) {
    const C* from = line_of(b, start + i * n, 1, n, row);
    for (int64_t j = 0; j < n; ++j) acc[j] = multiply_add(a[i], from[j], acc[j]);
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
  const Tensor* bias = has_bias(args) ? &context.in(args.node(), 2) : nullptr;
  context.pool.parallel_for(batches * s.m, 1, [&](int64_t begin, int64_t end) {
    visit_arithmetic(args, y.dtype, [&](auto tag) {
      using C = typename decltype(tag)::type;
      const auto n = static_cast<size_t>(s.n), k = static_cast<size_t>(s.k);
      std::vector<C> acc(n), left(k), right(std::max(n, k));
      for (int64_t r = begin; r < end; ++r) {
        const auto [ia, ib] = offsets[static_cast<size_t>(r / s.m)];
        const int64_t row = r % s.m;
        const C* x = line_of(a, ia * s.m * s.k + (t.a ? row : row * s.k), t.a ? s.m : 1, s.k, left.data());
        multiply_row(x, b, ib * s.k * s.n, t.b, s.n, s.k, right.data(), acc.data());
        if (bias) {
          const C* shift = line_of(*bias, 0, 1, s.n, right.data());
          for (size_t j = 0; j < n; ++j) acc[j] = multiply_add(shift[j], C{1}, acc[j]);
        }
        store(acc.data(), s.n, y, r * s.n);
      }
    });
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
