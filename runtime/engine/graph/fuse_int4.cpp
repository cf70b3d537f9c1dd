// How a float graph unpacks int4 weights, which MindSpore has no CPU primitive for. Bytes [K, N/2] hold q + 8
// of the even columns in the low nibble:
//
//   high = floor(bytes / 16), low = bytes - 16 * high, q = interleave(low, high) - 8
//
// What becomes of q: fuse_dequantize.cpp.
#include "graph/fuse_facts.h"

namespace mllm::fusion {
namespace {

using Step = Nibbles::Step;

const Nibbles* nibbles(const Fuser& f, ValueId v, Step step) {
  const auto* x = f.fact<Nibbles>(v);
  return x && x->step == step ? x : nullptr;
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

constexpr NamedRule kRules[] = {
    {"Mul", scale_nibbles},
    {"Floor", floor},
    {"Sub", subtract},
    {"Concat", interleave},
};

}  // namespace

std::span<const NamedRule> int4_rules() {
  return kRules;
}

}  // namespace mllm::fusion
