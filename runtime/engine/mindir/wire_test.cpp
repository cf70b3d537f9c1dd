// The wire reader and parser: what they read, and that damaged bytes end in an error.
#include <cstdint>
#include <random>
#include <string>

#include "base/testing.h"
#include "mindir/model.h"
#include "mindir/testing.h"

namespace mllm {
namespace {

using mindir::ElementType;
using testing::Message;
using testing::ModelBuilder;
using testing::tensor;

mindir::Model parse(const std::string& bytes) {
  return mindir::parse({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "test.mindir");
}

std::string sample() {
  return ModelBuilder()
      .input("x", ElementType::Float, {2, 3})
      .parameter(tensor<float>("w", ElementType::Float, {3}, {1, 2, 3}))
      .ints("shape", {3, 2})
      .node("Add", "sum", {"x", "w"})
      .node("Reshape", "y", {"sum", "shape"})
      .output("y", {tensor("y", ElementType::Float, {3, 2})})
      .bytes();
}

TEST(reads_a_model) {
  const std::string bytes = sample();
  const mindir::Model m = parse(bytes);
  CHECK_EQ(m.graph.name, "main");
  CHECK_EQ(m.graph.inputs.size(), 1u);
  CHECK_EQ(m.graph.inputs[0].tensors[0].dims.size(), 2u);
  CHECK_EQ(m.graph.parameters[0].name, "w");
  CHECK_EQ(m.graph.parameters[0].raw_data.size(), 12u);
  CHECK_EQ(m.graph.nodes.size(), 3u);
  CHECK_EQ(m.graph.nodes[0].attributes[0].values[1].ints[0], 2);
  CHECK_EQ(m.graph.nodes[1].inputs[1], "w");
  CHECK_EQ(m.primitives[1].op_type, "Reshape");
}

TEST(packed_and_single_numbers_are_the_same) {
  Message dims;
  dims.varint(5);
  dims.varint(300);
  const Message packed = Message().text(1, dims.bytes()).number(2, 1).text(7, "t");
  const std::string bytes =
      ModelBuilder().parameter(packed).parameter(tensor("u", ElementType::Float, {5, 300})).bytes();
  const mindir::Model m = parse(bytes);
  CHECK(m.graph.parameters[0].dims == m.graph.parameters[1].dims);
}

TEST(skips_unknown_fields) {
  Message m;
  m.number(999, 7)
      .text(1000, "anything")
      .fixed32(1001, 1.0f)
      .message(7, Message().number(77, 1).text(2, "g"));
  const std::string bytes = m.bytes();
  CHECK_EQ(parse(bytes).graph.name, "g");
}

TEST(refuses_what_is_not_a_model) {
  CHECK_THROWS(parse(""), MLLM_ERROR_FORMAT);
  CHECK_THROWS(parse("hello, world"), MLLM_ERROR_FORMAT);
  CHECK_THROWS(parse(Message().text(14, "").bytes()), MLLM_ERROR_FORMAT);              // no graph
  CHECK_THROWS(parse(std::string(20, '\xff')), MLLM_ERROR_FORMAT);                     // endless number
  CHECK_THROWS(parse(Message().number(7, 1).bytes()), MLLM_ERROR_FORMAT);              // graph as a number
  CHECK_THROWS(parse(std::string("\x3a\xff\xff\xff\xff\x0f", 6)), MLLM_ERROR_FORMAT);  // length past the end
  CHECK_THROWS(parse(Message().message(7, Message().text(2, "\xff")).bytes()),
               MLLM_ERROR_FORMAT);  // not UTF-8
  CHECK_THROWS(parse(Message().message(7, Message().text(2, std::string(1, '\0'))).bytes()),
               MLLM_ERROR_FORMAT);
}

TEST(accepts_names_outside_ascii) {
  const std::string bytes = ModelBuilder().input("✓construct↓φ😀", ElementType::Float, {1}).bytes();
  CHECK_EQ(parse(bytes).graph.inputs[0].name, "✓construct↓φ😀");
}

TEST(refuses_deep_nesting) {
  Message a = ModelBuilder::attribute("", mindir::AttributeType::Tuple);
  for (int i = 0; i < 40; ++i) a = ModelBuilder::attribute("", mindir::AttributeType::Tuple).message(17, a);
  CHECK_THROWS(parse(ModelBuilder().constant("c", a).bytes()), MLLM_ERROR_FORMAT);
}

// Truncated anywhere or with bytes flipped, a file gives a model or a FORMAT error, nothing else.
void survives(const std::string& bytes) {
  try {
    parse(bytes);
  } catch (const Error& e) {
    CHECK_EQ(e.status(), MLLM_ERROR_FORMAT);
  }
}

TEST(survives_truncation_and_noise) {
  const std::string whole = sample();
  for (size_t n = 0; n < whole.size(); ++n) survives(whole.substr(0, n));
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = whole;
    const int flips = 1 + static_cast<int>(random() % 4);
    for (int i = 0; i < flips; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    survives(bytes);
  }
}

}  // namespace
}  // namespace mllm

TEST_MAIN()
