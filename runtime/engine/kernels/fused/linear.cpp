#include <algorithm>
#include <memory>
#include <new>
#include <vector>

#include "kernels/fused/elementwise.h"
#include "kernels/fused/linear_operands.h"
#include "kernels/fused/operators.h"
#include "kernels/fused/rows.h"
#include "kernels/fused/vector.h"
#include "kernels/matmul/packed_matrix.h"

namespace mllm::fused {
namespace {

constexpr int64_t kLine = 64;
// Weights per piece of work: a few microseconds of reading, enough to hide handing out the piece, few enough
// that a thread that loses its core holds up little.
constexpr int64_t kPieceBytes = 32 << 10;
// Panels that one row is multiplied with at once.
constexpr int64_t kMostPanels = 64;
// Rows are quantized by whoever calls as long as that is quicker than waking the others.
constexpr int64_t kAloneElements = 1 << 15;

int64_t align(int64_t bytes) {
  return (bytes + kLine - 1) / kLine * kLine;
}

void check_floats(const OpArgs& args, size_t i, int64_t n, const char* what) {
  if (args.is_none(i)) return;
  if (!is_float_weight(args.dtype(i)) || numel(args.dims(i)) != n) {
    args.invalid(std::string(what) + " must be float with " + std::to_string(n) + " elements");
  }
}

std::vector<TensorType> infer(const OpArgs& args) {
  const TensorType& x = activation(args, 0);
  const LinearOperands operands(args);
  check_floats(args, LinearOperands::kGamma, x.dims[1], "gamma");
  std::vector<TensorType> types;
  for (size_t i = 0; i < operands.count(); ++i) {
    const int64_t n = operands.check(i, x.dims[1]);
    const size_t bias = operands.bias(i);
    if (operands.has_int8_rows()) {
      if (args.dtype(LinearOperands::weight(i)) != DType::Int8 || operands.group() != 0 ||
          !args.is_none(LinearOperands::zero(i)) || x.dims[1] > kMostInt8Inputs) {
        args.invalid("int8 activations need int8 weights without groups or zero points, of at most " +
                     std::to_string(kMostInt8Inputs) + " inputs");
      }
    }
    if (operands.has_int8_rows() && !args.is_none(bias) && args.dtype(bias) == DType::Int32) {
      if (numel(args.dims(bias)) != n) args.invalid("the bias must have " + std::to_string(n) + " elements");
    } else {
      check_floats(args, bias, n, "bias");
    }
    types.push_back({DType::Float32, {x.dims[0], n}});
  }
  if (operands.is_swiglu()) {
    if (types.size() != 2 || !(types[0] == types[1])) args.invalid("a gated pair must have equal widths");
    types.pop_back();
  }
  if (!args.is_none(LinearOperands::kResidual)) {
    if (types.size() != 1 || !(activation(args, LinearOperands::kResidual) == types[0])) {
      args.invalid("the residual must have the type of the one output");
    }
  }
  return types;
}

// Where things lie in the scratch memory of a node: a normalized copy of the rows, then their tiles.
struct Layout {
  Layout(int64_t rows, int64_t k, const WeightView& w, bool has_gamma, bool integers) : row_count(rows) {
    // A matrix unit's tiles have 16 rows of whole 64-byte runs, used or not.
    constexpr int64_t kMostTileRows = 16;
    const int64_t whole = (rows + kMostTileRows - 1) / kMostTileRows * kMostTileRows;
    normalized = 0;
    values = has_gamma ? align(rows * k * 4) : 0;
    if (integers) {
      scales = values + align(whole * w.k_padded);
      corrections = scales + align(whole * w.spans * 4);
      row_scales = corrections + align(whole * w.groups * 4);
      bytes = row_scales + align(whole * 4);
    } else {
      bytes = values + align(rows * k * 4);
    }
  }
  int64_t row_count;
  int64_t normalized = 0, values = 0, scales = 0, corrections = 0, row_scales = 0, bytes = 0;
};

size_t scratch_bytes(const OpArgs& args, int) {
  const LinearOperands operands(args);
  const Dims& x = args.dims(0);
  int64_t most = 0;
  for (size_t i = 0; i < operands.count(); ++i) {
    const PackedMatrix layout(operands.stored(i));
    // Exact runs of integer weights take floats.
    for (const bool integers : {false, true}) {
      most = std::max(most, Layout(x[0], x[1], layout.view(), operands.has_gamma(), integers).bytes);
    }
  }
  return static_cast<size_t>(most);
}

}  // namespace

size_t linear_thread_bytes(const OpArgs& args) {
  const LinearOperands operands(args);
  const int64_t rows = args.dims(0)[0];
  int64_t panel = 0;
  int64_t at_once = 1;
  for (size_t i = 0; i < operands.count(); ++i) {
    const PackedMatrix layout(operands.stored(i));
    panel = std::max(panel, panel_scratch_bytes(layout.view()));
    if (const MatmulKernels* wide = wide_kernels(layout.view())) {
      at_once = std::max(at_once, wide->panels_at_once);
    }
  }
  for (const bool integers : {false, true}) {
    at_once = std::max(at_once, matmul_kernels(rows, integers).panels_at_once);
  }
  const int64_t sums = std::max(kMostPanels, at_once * ((rows + 15) / 16 * 16)) * kPanelColumns;
  return static_cast<size_t>(panel + 2 * sums * 4);
}

namespace {

// Memory of one thread for the sums and the unpacked weights of a panel.
uint8_t* thread_scratch(size_t bytes) {
  struct Free {
    void operator()(uint8_t* p) const { ::operator delete[](p, std::align_val_t{kLine}); }
  };
  thread_local std::unique_ptr<uint8_t[], Free> memory;
  thread_local size_t size = 0;
  if (size < bytes) {
    memory.reset();
    size = 0;
    memory.reset(static_cast<uint8_t*>(::operator new[](bytes, std::align_val_t{kLine})));
    size = bytes;
  }
  return memory.get();
}

// 32 elements from n0 on as float32, zero past the end.
const float* padded_floats(const Tensor& tensor, int64_t n0, float* buffer) {
  if (tensor.data == nullptr) return nullptr;
  const int64_t n = tensor.size();
  for (int64_t i = 0; i < kPanelColumns; ++i) {
    buffer[i] = n0 + i < n ? float_element(tensor, n0 + i) : 0.0f;
  }
  return buffer;
}

// The same of int32.
const int32_t* padded_integers(const Tensor& tensor, int64_t n0, int32_t* buffer) {
  const int64_t n = tensor.size();
  for (int64_t i = 0; i < kPanelColumns; ++i) buffer[i] = n0 + i < n ? tensor.as<const int32_t>()[n0 + i] : 0;
  return buffer;
}

// One matrix of the node, with what the loop over its panels needs at hand: attributes and operands are found
// by name and index, which takes as long as a kilobyte from memory does.
struct Matrix {
  const PackedMatrix* packed = nullptr;
  const Tensor* bias = nullptr;  // or null
  float* y = nullptr;
};

struct Run {
  const OpArgs& args;
  const RunContext& context;
  const LinearOperands operands;
  int64_t rows;
  int64_t k;

  ActivationView prepare(const WeightView& w, const MatmulKernels& kernels, bool integers) const {
    const Node& node = args.node();
    const auto* x = context.in(node, 0).as<const float>();
    const Layout at(rows, k, w, operands.has_gamma(), integers);
    auto* scratch = static_cast<uint8_t*>(context.scratch);
    const auto arrange_tile = [&](int64_t row0, int64_t count) {
      const float* from = x + row0 * k;
      if (operands.has_gamma()) {
        auto* to = reinterpret_cast<float*>(scratch + at.normalized) + row0 * k;
        normalize(from, count, to);
        from = to;
      }
      auto* values = scratch + at.values + row0 * (integers ? w.k_padded : k * 4);
      kernels.arrange({.x = from,
                       .x_stride = k,
                       .rows = count,
                       .weights = &w,
                       .floats = integers ? nullptr : reinterpret_cast<float*>(values),
                       .values = reinterpret_cast<int8_t*>(values),
                       .scales = operands.has_int8_rows()
                                     ? nullptr
                                     : reinterpret_cast<float*>(scratch + at.scales) + row0 * w.spans,
                       .corrections = reinterpret_cast<int32_t*>(scratch + at.corrections) + row0 * w.groups,
                       .row_scales = operands.has_int8_rows()
                                         ? reinterpret_cast<float*>(scratch + at.row_scales) + row0
                                         : nullptr,
                       .factor = operands.input_factor(),
                       .zero = operands.input_zero()});
    };
    // A piece is one of the largest tiles, or what is left in smaller ones.
    const auto tile = [&](int64_t begin, int64_t end) {
      const int64_t last = std::min(rows, end * kernels.tile_rows);
      for (int64_t row = begin * kernels.tile_rows, size = 0; row < last; row += size) {
        size = tile_size(kernels.tile_rows, last - row);
        arrange_tile(row, std::min(size, last - row));
      }
    };
    const int64_t tiles = (rows + kernels.tile_rows - 1) / kernels.tile_rows;
    if (rows * k <= kAloneElements) {
      tile(0, tiles);
    } else {
      context.pool.parallel_for(tiles, 1, tile);
    }
    return {
        .rows = rows,
        .floats = reinterpret_cast<const float*>(scratch + at.values),
        .values = reinterpret_cast<const int8_t*>(scratch + at.values),
        .scales = operands.has_int8_rows() ? nullptr : reinterpret_cast<const float*>(scratch + at.scales),
        .corrections = reinterpret_cast<const int32_t*>(scratch + at.corrections),
        .has_lowest = operands.input_factor() > 0};
  }

  void normalize(const float* x, int64_t count, float* y) const {
    const Tensor& gamma = context.in(args.node(), LinearOperands::kGamma);
    for (int64_t r = 0; r < count; ++r) {
      rms_normalize(x + r * k, gamma, operands.eps(), y + r * k);
    }
  }

  const float* row_scales(const WeightView& w) const {
    if (!operands.has_int8_rows()) return nullptr;
    const Layout at(rows, k, w, operands.has_gamma(), true);
    return reinterpret_cast<const float*>(static_cast<const uint8_t*>(context.scratch) + at.row_scales);
  }

  std::vector<Matrix> matrices() const {
    const Node& node = args.node();
    std::vector<Matrix> found;
    for (size_t i = 0; i < operands.count(); ++i) {
      const size_t b = LinearOperands::bias(i);
      // A gated pair has one output; its second matrix writes to scratch memory only.
      float* y = i < node.outputs.size() ? context.out(node, i).as<float>() : nullptr;
      found.push_back({&operands.packed(i), args.is_none(b) ? nullptr : &context.in(node, b), y});
    }
    return found;
  }
};

// What all panels of a node have in common.
struct Panels {
  const ActivationView& activations;
  const MatmulKernels& kernels;
  bool integers;
  const float* row_scales;  // or null

  // Of one panel: whole tiles of rows, or just the one row.
  int64_t sums_stride() const {
    return (activations.rows == 1 ? 1 : (activations.rows + 15) / 16 * 16) * kPanelColumns;
  }

  // `count` panels of one matrix times all rows, sums_stride() apart.
  void multiply(const Matrix& matrix, int64_t p, int64_t count, float* sums, void* scratch) const {
    const PanelProduct product{&matrix.packed->view(), p, &activations, sums, scratch, count, sums_stride()};
    if (integers) {
      kernels.int_panels(product);
    } else {
      kernels.float_panels(product);
    }
  }

  // The sums of `count` panels with scale, bias and residual: y.
  void finish(const Matrix& matrix, int64_t p, int64_t count, const float* sums, const float* residual,
              float* y, int64_t y_stride) const {
    if (activations.rows == 1 && !matrix.bias) {
      return finish_columns(matrix, p, count * kPanelColumns, sums, residual, y, y_stride);
    }
    for (int64_t i = 0; i < count; ++i) {
      const int64_t n = i * kPanelColumns;
      finish_columns(matrix, p + i, kPanelColumns, sums + i * sums_stride(),
                     residual ? residual + n : nullptr, y + n, y_stride);
    }
  }

 private:
  void finish_columns(const Matrix& matrix, int64_t p, int64_t columns, const float* sums,
                      const float* residual, float* y, int64_t y_stride) const {
    const int64_t n0 = p * kPanelColumns;
    const float* scale = matrix.packed->column_scale();
    float bias[kPanelColumns];
    int32_t int_bias[kPanelColumns];
    const bool has_int_bias = matrix.bias && matrix.bias->dtype == DType::Int32;
    const bool has_bias = matrix.bias && !has_int_bias;
    kernels.finish({.sums = sums,
                    .rows = activations.rows,
                    .columns = std::min(columns, matrix.packed->columns() - n0),
                    .row_scale = row_scales,
                    .scale = scale ? scale + n0 : nullptr,
                    .bias = has_bias ? padded_floats(*matrix.bias, n0, bias) : nullptr,
                    .residual = residual,
                    .y = y,
                    .y_stride = y_stride,
                    .int_bias = has_int_bias ? padded_integers(*matrix.bias, n0, int_bias) : nullptr});
  }
};

void run(const OpArgs& args, const RunContext& context) {
  const Node& node = args.node();
  const Run r{args, context, LinearOperands(args), rows_now(args, context), args.dims(0)[1]};
  if (r.rows == 0) return;
  const LinearOperands& operands = r.operands;
  const WeightView& w = operands.packed(0).view();
  const bool integers = operands.has_int8_rows() || (operands.packed(0).is_integer() && !context.exact);
  const MatmulKernels* wide = integers && !operands.has_int8_rows() && args.dims(0)[0] >= kFewestPromptRows
                                  ? wide_kernels(w)
                                  : nullptr;
  const MatmulKernels& kernels = wide ? *wide : matmul_kernels(r.rows, integers);
  const ActivationView activations = r.prepare(w, kernels, integers);
  const bool swiglu = operands.is_swiglu();

  const std::vector<Matrix> matrices = r.matrices();
  const Panels of{activations, kernels, integers, r.row_scales(w)};
  int64_t panels = 0;
  int64_t bytes = 0;
  int64_t panel_scratch = 0;
  for (const Matrix& m : matrices) {
    if (&m == &matrices[0] || !swiglu) panels += m.packed->panels();
    bytes += static_cast<int64_t>(m.packed->bytes());
    panel_scratch = std::max(panel_scratch, panel_scratch_bytes(m.packed->view()));
  }
  // Every interruption of the stream from memory costs as much as some kilobytes: one row is multiplied with
  // all panels that a thread takes at once. Many rows: as the kernels like best, as long as each thread gets
  // a few pieces.
  const int64_t at_once =
      r.rows == 1 ? kMostPanels
                  : std::clamp<int64_t>(panels / (4 * context.pool.threads()), 1, kernels.panels_at_once);
  const int64_t grain = r.rows <= 8 ? std::max<int64_t>(1, kPieceBytes / (bytes / panels)) : at_once;
  const float* residual = args.is_none(LinearOperands::kResidual)
                              ? nullptr
                              : context.in(node, LinearOperands::kResidual).as<const float>();
  const VectorKernels& vectors = vector_kernels();
  const int64_t sums_each = of.sums_stride();
  context.pool.parallel_ranges(panels, grain, [&](int64_t begin, int64_t end) {
    const int64_t room = std::min(at_once, end - begin) * sums_each;
    uint8_t* memory = thread_scratch(static_cast<size_t>(panel_scratch + (swiglu ? 2 : 1) * room * 4));
    void* scratch = memory;
    auto* sums = reinterpret_cast<float*>(memory + panel_scratch);
    float* more = sums + room;
    for (int64_t j = begin, count = 0; j < end; j += count) {
      if (swiglu) {
        count = std::min(at_once, end - j);
        of.multiply(matrices[0], j, count, sums, scratch);
        of.multiply(matrices[1], j, count, more, scratch);
        // The panels of one row stand side by side, like the outputs.
        const int64_t together = r.rows == 1 ? count : 1;
        for (int64_t i = 0; i < count; i += together) {
          float* gate = sums + i * sums_each;
          float* up = more + i * sums_each;
          of.finish(matrices[0], j + i, together, gate, nullptr, gate, kPanelColumns);
          of.finish(matrices[1], j + i, together, up, nullptr, up, kPanelColumns);
          const int64_t n = matrices[0].packed->columns();
          const int64_t n0 = (j + i) * kPanelColumns;
          for (int64_t row = 0; row < r.rows; ++row) {
            vectors.swiglu(gate + row * kPanelColumns, up + row * kPanelColumns, matrices[0].y + row * n + n0,
                           std::min(together * kPanelColumns, n - n0));
          }
        }
        continue;
      }
      size_t m = 0;
      int64_t p = j;
      while (p >= matrices[m].packed->panels()) p -= matrices[m++].packed->panels();
      const Matrix& matrix = matrices[m];
      const int64_t n0 = p * kPanelColumns;
      count = std::min({at_once, end - j, matrix.packed->panels() - p});
      of.multiply(matrix, p, count, sums, scratch);
      of.finish(matrix, p, count, sums, residual ? residual + n0 : nullptr, matrix.y + n0,
                matrix.packed->columns());
    }
  });
}

}  // namespace

Operator linear_operator() {
  return {.name = "fused.Linear", .infer = infer, .run = run, .scratch_bytes = scratch_bytes};
}

}  // namespace mllm::fused
