// How a float graph unpacks int4 weights, which MindSpore has no CPU primitive for. Bytes [K, N/2] hold q + 8
// of the even columns in the low nibble:
//
//   high = floor(bytes / 16), low = bytes - 16 * high, weight = (interleave(low, high) - 8) * scale
//
// where scale is [1, N], or [groups, N] with each row repeated for the inputs of its group.
#include <cmath>

#include "graph/fuse_facts.h"

namespace mllm::fusion {
namespace {

using Step = Nibbles::Step;

const Nibbles* nibbles(const Fuser& f, ValueId v, Step step) {
  const auto* x = f.fact<Nibbles>(v);
  return x && x->step == step ? x : nullptr;
}

Dims unpacked(const Fuser& f, const Nibbles& x) {
  const Dims& dims = f.dims(x.parameter);
  return {dims[0], 2 * dims[1]};
}

// Steps that multiply by a power of two.
bool scale_nibbles(Fuser& f, const Node& node) {
  const auto x = f.with_number<Nibbles>(node);
  if (!x || f.dtype(x.a_id) != DType::Float32) return false;
  if (x.a->step == Step::Bytes && x.number == 1.0 / 16) {
    f.state(node.outputs[0], Nibbles{x.a->parameter, Step::Sixteenths});
  } else if (x.a->step == Step::High && x.number == 16.0) {
    f.state(node.outputs[0], Nibbles{x.a->parameter, Step::SixteenHigh});
  } else {
    return false;
  }
  return true;
}

bool floor(Fuser& f, const Node& node) {
  const Nibbles* x = nibbles(f, node.inputs[0], Step::Sixteenths);
  if (!x) return false;
  f.state(node.outputs[0], Nibbles{x->parameter, Step::High});
  return true;
}

bool subtract(Fuser& f, const Node& node) {
  if (node.inputs.size() < 2 || f.dtype(node.inputs[0]) != DType::Float32) return false;
  const Nibbles* a = nibbles(f, node.inputs[0], Step::Bytes);
  const Nibbles* b = nibbles(f, node.inputs[1], Step::SixteenHigh);
  if (a && b && a->parameter == b->parameter && f.dims(node.inputs[0]) == f.dims(node.inputs[1])) {
    f.state(node.outputs[0], Nibbles{a->parameter, Step::Low});
    return true;
  }
  const Nibbles* codes = nibbles(f, node.inputs[0], Step::Codes);
  if (!codes || f.number(node.inputs[1]) != 8.0) return false;
  f.state(node.outputs[0], Nibbles{codes->parameter, Step::Signed});
  return true;
}

bool interleave(Fuser& f, const Node& node) {
  const auto* parts = f.elements(node.inputs[0]);
  if (!parts || parts->size() != 2 || node.inputs.size() < 2) return false;
  const Nibbles* low = nibbles(f, (*parts)[0], Step::Low);
  const Nibbles* high = nibbles(f, (*parts)[1], Step::High);
  const Dims& dims = f.dims((*parts)[0]);
  if (!low || !high || low->parameter != high->parameter || dims != f.dims((*parts)[1]) || dims.empty() ||
      dims.back() != 1 || !f.is_axis(node.inputs[1], -1, dims.size())) {
    return false;
  }
  f.state(node.outputs[0], Nibbles{low->parameter, Step::Codes});
  return true;
}

// Scales [groups, N] seen as [groups, 1, N], each row `group` times.
bool repeat_rows(Fuser& f, const Node& node) {
  const Weight* x = f.fact<Weight>(node.inputs[0]);
  if (!x || x->scale != kNoValue) return false;
  const Dims& from = f.dims(node.inputs[0]);
  const Dims& to = f.dims(node.outputs[0]);
  if (from.size() != 3 || to.size() != 3 || from[1] != 1 || from[0] != to[0] || from[2] != to[2] ||
      f.dims(x->parameter) != Dims{from[0], from[2]}) {
    return false;
  }
  f.state(node.outputs[0], RepeatedScale{x->parameter, to[1]});
  return true;
}

// The first rows of repeated scales: the last group is a short one.
bool first_rows(Fuser& f, const Node& node) {
  const auto* x = f.fact<RepeatedScale>(node.inputs[0]);
  if (!x) return false;
  const Dims& from = f.dims(node.inputs[0]);
  const Dims& to = f.dims(node.outputs[0]);
  const Dims& scale = f.dims(x->parameter);
  if (from != Dims{scale[0] * x->group, scale[1]} || to.size() != 2 || to[1] != from[1]) return false;
  if (!slices_first_rows(f, node, to[0])) return false;
  f.state(node.outputs[0], *x);
  return true;
}

bool dequantize(Fuser& f, const Node& node) {
  if (const auto p = f.pair<Nibbles, RepeatedScale>(node)) {
    const Dims& scale = f.dims(p.b->parameter);
    const Dims dims = f.dims(p.a_id);
    const int64_t group = p.b->group;
    if (p.a->step != Step::Signed || dims != unpacked(f, *p.a) || f.dims(p.b_id) != dims ||
        dims[1] != scale[1])
      return false;
    if ((group != 32 && group != 64 && group != 128) || scale[0] != (dims[0] + group - 1) / group)
      return false;
    f.state(node.outputs[0], Weight{p.a->parameter, p.b->parameter, group});
    return true;
  }
  const auto p = f.pair<Nibbles, Weight>(node);
  if (!p || p.a->step != Step::Signed || p.b->scale != kNoValue) return false;
  const Dims dims = f.dims(p.a_id);
  if (dims != unpacked(f, *p.a) || f.dims(p.b_id) != Dims{1, dims[1]} || f.dtype(p.b_id) != DType::Float32)
    return false;
  f.state(node.outputs[0], Weight{p.a->parameter, p.b->parameter});
  return true;
}

constexpr NamedRule kRules[] = {
    {"Mul", scale_nibbles},
    {"Floor", floor},
    {"Sub", subtract},
    {"Concat", interleave},
    {"BroadcastTo", repeat_rows},
    {"StridedSlice", first_rows},
    {"Mul", dequantize},
};

}  // namespace

std::span<const NamedRule> int4_rules() {
  return kRules;
}

}  // namespace mllm::fusion
