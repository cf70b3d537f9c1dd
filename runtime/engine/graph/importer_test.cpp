// Importing: what hostile or broken files end in, and how nodes become a graph.
#include "graph/importer.h"

#include <random>
#include <string>

#include "base/testing.h"
#include "graph/plan.h"
#include "mindir/testing.h"

namespace mllm {
namespace {

using mindir::ElementType;
using testing::Folder;
using testing::Message;
using testing::ModelBuilder;
using testing::Shape;
using testing::tensor;

const Message kResult = tensor("r", ElementType::Float, {2});

Graph import(const ModelBuilder& builder) {
  const Folder folder;
  ThreadPool pool(1);
  return ModelFile::open(folder.write("g.mindir", builder.bytes()))->import(pool);
}

std::string error_of(const ModelBuilder& builder) {
  try {
    import(builder);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

ModelBuilder with_input() {
  return ModelBuilder().input("x", ElementType::Float, {2});
}

TEST(imports_nodes_in_order) {
  const Graph g =
      import(with_input().node("Add", "a", {"x", "x"}).node("Mul", "b", {"a", "x"}).output("b", {kResult}));
  CHECK_EQ(g.nodes.size(), 2u);
  CHECK_EQ(g.nodes[1].op, "Mul");
  CHECK_EQ(g.output_names[0], "b");
}

TEST(folds_constants_but_not_parameters) {
  const Message two = ModelBuilder::attribute("value", mindir::AttributeType::Tensors)
                          .message(12, tensor<float>("c", ElementType::Float, {2}, {1, 2}));
  const Graph g = import(with_input()
                             .parameter(tensor<float>("w", ElementType::Float, {2}, {5, 6}))
                             .constant("c", two)
                             .node("Add", "cc", {"c", "c"})
                             .node("Add", "wc", {"w", "cc"})
                             .node("Mul", "y", {"wc", "x"})
                             .output("y", {kResult}));
  CHECK_EQ(g.nodes.size(), 2u);
  const Value& folded = g.value(g.nodes[0].inputs[1]);
  CHECK(folded.kind == Value::Kind::Constant);
  CHECK_EQ(folded.tensor.as<float>()[1], 4.0f);
}

TEST(names_of_outputs_differ) {
  const Graph g = import(with_input().node("MakeTuple", "t", {"x", "x"}).output("t", {kResult, kResult}));
  CHECK_EQ(g.output_names.size(), 2u);
  CHECK_EQ(g.output_names[0], "x");
  CHECK_EQ(g.output_names[1], "x.1");
}

TEST(inlines_functions) {
  Message f;
  f.message(1, ModelBuilder::node_message("REF::p:Add", "s", {"a", "a"}));
  f.text(2, "twice").message(5, Message().text(1, "a").message(2, kResult));
  f.message(6, Message().text(1, "s").message(2, kResult));
  const Graph g = import(with_input()
                             .function(f)
                             .node("Add", "z", {"x", "x"})
                             .raw_node("REF::twice", "y1", {"z"})
                             .raw_node("REF::twice", "y2", {"y1"})
                             .output("y2", {kResult}));
  CHECK_EQ(g.nodes.size(), 3u);
}

TEST(recursion_and_explosion_end_in_an_error) {
  Message f;
  f.message(1, ModelBuilder::node_message("REF::f", "s", {"a"}));
  f.text(2, "f").message(5, Message().text(1, "a").message(2, kResult));
  f.message(6, Message().text(1, "s").message(2, kResult));
  CHECK(contains(error_of(with_input().function(f).raw_node("REF::f", "y", {"x"}).output("y", {kResult})),
                 "recursion"));
  ModelBuilder doubling = with_input();
  for (int level = 0; level < 40; ++level) {
    const std::string callee = "REF::f" + std::to_string(level + 1);
    Message g;
    if (level < 39) {
      g.message(1, ModelBuilder::node_message(callee, "s", {"a"}));
      g.message(1, ModelBuilder::node_message(callee, "t", {"s"}));
    } else {
      g.message(1, ModelBuilder::node_message("REF::p:Add", "t", {"a", "a"}));
    }
    g.text(2, "f" + std::to_string(level)).message(5, Message().text(1, "a").message(2, kResult));
    g.message(6, Message().text(1, "t").message(2, kResult));
    doubling.function(g);
  }
  CHECK(contains(
      error_of(doubling.node("Add", "z", {"x", "x"}).raw_node("REF::f0", "y", {"z"}).output("y", {kResult})),
      "expands to more than"));
}

TEST(doubling_tuples_end_in_an_error) {
  ModelBuilder numbers = with_input().integer("t0", 1);
  ModelBuilder tensors = with_input().node("MakeTuple", "t0", {"x", "x"});
  for (int i = 0; i < 60; ++i) {
    const std::string from = "t" + std::to_string(i), to = "t" + std::to_string(i + 1);
    numbers.node("MakeTuple", to, {from, from});
    tensors.node("MakeTuple", to, {from, from});
  }
  CHECK(contains(error_of(numbers.output("x", {kResult})), "hold more than"));
  CHECK(contains(error_of(tensors.output("x", {kResult})), "nests more than 32 deep"));
}

TEST(errors_name_the_node) {
  CHECK(contains(error_of(with_input().node("Add", "a", {"x", "later"}).output("a", {kResult})), "node a"));
  CHECK(contains(error_of(with_input().node("Frobnicate", "n1", {"x"}).output("n1", {kResult})),
                 "node n1: the engine has no operator for primitive Frobnicate"));
  CHECK(contains(error_of(with_input().node("fused.Linear", "n1", {"x"}).output("n1", {kResult})), "fused"));
  CHECK(
      contains(error_of(with_input().raw_node("REF::closure", "n2", {}).output("n2", {kResult})), "node n2"));
  CHECK(contains(error_of(with_input().raw_node("Add", "n3", {}).output("n3", {kResult})), "node n3"));
  CHECK(contains(error_of(with_input().node("Add", "a", {"x"}).output("a", {kResult})),
                 "node a (Add): operand 1"));
  CHECK(
      contains(error_of(with_input().ints("s", {-5}).node("Reshape", "r", {"x", "s"}).output("r", {kResult})),
               "node r (Reshape)"));
}

TEST(refuses_duplicate_names) {
  CHECK(contains(
      error_of(with_input().node("Add", "a", {"x", "x"}).node("Add", "a", {"x", "x"}).output("a", {kResult})),
      "'a'"));
  CHECK(contains(
      error_of(
          with_input().parameter(tensor<float>("x", ElementType::Float, {1}, {1})).output("x", {kResult})),
      "'x'"));
}

TEST(refuses_outputs_that_do_not_fit) {
  CHECK(contains(error_of(with_input().output("x", {tensor("r", ElementType::Float, {3})})),
                 "declares output"));
  CHECK(contains(error_of(with_input().output("x", {kResult, kResult})), "returns 1"));
  CHECK(contains(error_of(with_input().integer("i", 3).output("i", {kResult})), "not a tensor"));
  CHECK(contains(error_of(with_input()), "one output entry"));
}

Message external(const std::string& location, int64_t offset, int64_t length, const Shape& dims) {
  return tensor("w", ElementType::Float, dims)
      .message(12, Message()
                       .text(1, location)
                       .number(2, static_cast<uint64_t>(offset))
                       .number(3, static_cast<uint64_t>(length)));
}

TEST(external_data_is_checked) {
  const auto status_of = [](const Message& parameter) {
    const Folder folder;
    folder.write("data_0", std::string(64, '\0'));
    ThreadPool pool(1);
    const auto builder = ModelBuilder().parameter(parameter).output("w", {kResult});
    try {
      ModelFile::open(folder.write("g.mindir", builder.bytes()))->import(pool);
    } catch (const Error& e) {
      return e.status();
    }
    return MLLM_OK;
  };
  CHECK_EQ(status_of(external("data_0", 56, 8, {2})), MLLM_OK);
  CHECK_EQ(status_of(external("data_0", 55, 8, {2})), MLLM_OK);  // unaligned: copied
  CHECK_EQ(status_of(external("data_0", 57, 8, {2})), MLLM_ERROR_FORMAT);
  CHECK_EQ(status_of(external("data_0", 0, 12, {2})), MLLM_ERROR_FORMAT);
  CHECK_EQ(status_of(external("data_0", -8, 8, {2})), MLLM_ERROR_FORMAT);
  CHECK_EQ(status_of(external("data_0", INT64_MAX, 8, {2})), MLLM_ERROR_FORMAT);
  CHECK_EQ(status_of(external("../data_0", 0, 8, {2})), MLLM_ERROR_FORMAT);
  CHECK_EQ(status_of(external("/etc/hostname", 0, 8, {2})), MLLM_ERROR_FORMAT);
  CHECK_EQ(status_of(external("missing", 0, 8, {2})), MLLM_ERROR_IO);
  CHECK_EQ(status_of(external("data_0", 0, 8, {int64_t{1} << 62, int64_t{1} << 62})), MLLM_ERROR_FORMAT);
  CHECK_EQ(status_of(external("data_0", 0, 8, {0, int64_t{1} << 62, int64_t{1} << 62})), MLLM_ERROR_FORMAT);
}

TEST(survives_noise) {
  const std::string whole = with_input()
                                .parameter(tensor<float>("w", ElementType::Float, {2, 2}, {1, 2, 3, 4}))
                                .ints("shape", {1, 2})
                                .ints("axes", {0})
                                .node("Reshape", "r", {"x", "shape"})
                                .node("BroadcastTo", "b", {"r", "shape"})
                                .node("MakeTuple", "t", {"b", "w"})
                                .integer("axis", 0)
                                .node("Concat", "c", {"t", "axis"})
                                .node("ReduceSum", "s", {"c", "axes"})
                                .output("s", {kResult})
                                .bytes();
  const Folder folder;
  ThreadPool pool(1);
  std::mt19937 random(2);
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = whole;
    const int flips = round == 0 ? 0 : 1 + static_cast<int>(random() % 3);
    for (int i = 0; i < flips; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    try {
      const auto file = ModelFile::open(folder.write("g.mindir", bytes));
      Plan plan(file->import(pool), pool);
      std::vector<Tensor> inputs;
      for (const auto& spec : file->inputs()) inputs.push_back(allocate(spec.type.dtype, spec.type.dims));
      plan.run(inputs);
    } catch (const Error& e) {
      CHECK(e.status() != MLLM_ERROR_INTERNAL);
    }
  }
}

}  // namespace
}  // namespace mllm

TEST_MAIN()
