// Memory of a plan: reuse, views, writes in place.
#include "graph/plan.h"

#include <cstring>
#include <string>

#include "base/testing.h"
#include "graph/importer.h"
#include "mindir/testing.h"

namespace mllm {
namespace {

using mindir::ElementType;
using testing::Folder;
using testing::ModelBuilder;
using testing::tensor;

struct Loaded {
  explicit Loaded(const ModelBuilder& builder)
      : pool(2),
        file(ModelFile::open(folder.write("g.mindir", builder.bytes()))),
        plan(file->import(pool), pool) {}
  Folder folder;
  ThreadPool pool;
  std::shared_ptr<const ModelFile> file;
  Plan plan;
};

Tensor floats(const Dims& dims, std::vector<float> values) {
  Tensor t = allocate(DType::Float32, dims);
  std::memcpy(t.data, values.data(), t.bytes());
  return t;
}

Tensor row(int32_t index) {
  Tensor t = allocate(DType::Int32, {1});
  t.as<int32_t>()[0] = index;
  return t;
}

TEST(chains_reuse_memory) {
  ModelBuilder b = ModelBuilder().input("x", ElementType::Float, {1024});
  std::string last = "x";
  for (int i = 0; i < 50; ++i) {
    const std::string next = "y" + std::to_string(i);
    b.node("Add", next, {last, "x"});
    last = next;
  }
  Loaded g(b.output(last, {tensor("r", ElementType::Float, {1024})}));
  CHECK(g.plan.arena_bytes() <= 2 * 4096);
  const Tensor x = floats({1024}, std::vector<float>(1024, 1.0f));
  CHECK_EQ(g.plan.run({{x}})[0].as<float>()[1023], 51.0f);
  CHECK_EQ(g.plan.run({{x}})[0].as<float>()[0], 51.0f);
}

TEST(a_value_read_late_is_not_overwritten) {
  ModelBuilder b = ModelBuilder().input("x", ElementType::Float, {4}).node("Add", "early", {"x", "x"});
  std::string last = "early";
  for (int i = 0; i < 6; ++i) {
    const std::string next = "y" + std::to_string(i);
    b.node("Mul", next, {last, "x"});
    last = next;
  }
  b.ints("s", {2, 2}).node("Reshape", "view", {"early", "s"}).node("Reshape", "view2", {last, "s"});
  Loaded g(b.node("Sub", "r", {"view2", "view"}).output("r", {tensor("r", ElementType::Float, {2, 2})}));
  const Tensor x = floats({4}, {1, 2, 3, -1});
  const auto out = g.plan.run({{x}});
  CHECK_EQ(out[0].as<float>()[1], 2.0f * 128 - 4);
  CHECK_EQ(out[0].as<float>()[3], -2.0f + 2);
}

ModelBuilder cache_graph() {
  return ModelBuilder()
      .input("cache", ElementType::Float, {3, 2})
      .input("row", ElementType::Int32, {1})
      .input("new", ElementType::Float, {1, 2});
}

TEST(writes_in_place) {
  Loaded g(cache_graph()
               .node("ScatterUpdate", "updated", {"cache", "row", "new"})
               .output("updated", {tensor("r", ElementType::Float, {3, 2})}));
  CHECK(g.plan.overwrites_input(0));
  CHECK(!g.plan.overwrites_input(2));
  const Tensor cache = floats({3, 2}, {1, 2, 3, 4, 5, 6});
  const auto out = g.plan.run({{cache, row(1), floats({1, 2}, {8, 9})}});
  CHECK(out[0].data == cache.data);
  CHECK_EQ(cache.as<float>()[2], 8.0f);
  CHECK_EQ(cache.as<float>()[4], 5.0f);
}

TEST(views_taken_before_a_write_keep_the_old_contents) {
  Loaded g(
      cache_graph()
          .ints("s", {2, 3})
          .node("Reshape", "old", {"cache", "s"})
          .node("ScatterUpdate", "updated", {"cache", "row", "new"})
          .node("Reshape", "now", {"updated", "s"})
          .node("MakeTuple", "t", {"old", "now"})
          .output("t", {tensor("a", ElementType::Float, {2, 3}), tensor("b", ElementType::Float, {2, 3})}));
  const Tensor cache = floats({3, 2}, {1, 2, 3, 4, 5, 6});
  const auto out = g.plan.run({{cache, row(0), floats({1, 2}, {8, 9})}});
  CHECK_EQ(out[0].as<float>()[0], 1.0f);
  CHECK_EQ(out[1].as<float>()[0], 8.0f);
  CHECK(out[1].data == cache.data);
}

TEST(a_written_parameter_is_state_of_the_plan) {
  ModelBuilder b = ModelBuilder()
                       .input("row", ElementType::Int32, {1})
                       .input("new", ElementType::Float, {1, 2})
                       .parameter(tensor<float>("state", ElementType::Float, {3, 2}, {1, 2, 3, 4, 5, 6}))
                       .node("ScatterUpdate", "u", {"state", "row", "new"})
                       .output("state", {tensor("r", ElementType::Float, {3, 2})});
  Loaded g(b);
  g.plan.run({{row(0), floats({1, 2}, {7, 7})}});
  const auto out = g.plan.run({{row(2), floats({1, 2}, {9, 9})}});
  CHECK_EQ(out[0].as<float>()[0], 7.0f);
  CHECK_EQ(out[0].as<float>()[4], 9.0f);
  Plan fresh(g.file->import(g.pool), g.pool);
  CHECK_EQ(fresh.run({{row(2), floats({1, 2}, {9, 9})}})[0].as<float>()[0], 1.0f);
}

TEST(an_index_out_of_range_names_the_node) {
  Loaded g(cache_graph()
               .node("ScatterUpdate", "updated", {"cache", "row", "new"})
               .output("updated", {tensor("r", ElementType::Float, {3, 2})}));
  const Tensor cache = floats({3, 2}, {1, 2, 3, 4, 5, 6});
  CHECK_THROWS(g.plan.run({{cache, row(3), floats({1, 2}, {8, 9})}}), MLLM_ERROR_INVALID_ARGUMENT);
  CHECK_THROWS(g.plan.run({{cache, row(-1), floats({1, 2}, {8, 9})}}), MLLM_ERROR_INVALID_ARGUMENT);
  CHECK_EQ(cache.as<float>()[4], 5.0f);
}

}  // namespace
}  // namespace mllm

TEST_MAIN()
