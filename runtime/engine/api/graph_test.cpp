// The C interface of graphs: what it checks, and whose memory is whose.
#include <cstring>
#include <string>
#include <vector>

#include "base/testing.h"
#include "include/mindir_llm.h"
#include "mindir/testing.h"

namespace mllm {
namespace {

using mindir::ElementType;
using testing::Folder;
using testing::ModelBuilder;
using testing::tensor;

struct Opened {
  explicit Opened(const ModelBuilder& builder) {
    if (mllm_graph_open(folder.write("g.mindir", builder.bytes()).c_str(), 1, &graph) != MLLM_OK)
      throw std::runtime_error(mllm_last_error());
  }
  ~Opened() { mllm_graph_close(graph); }
  Folder folder;
  mllm_graph* graph = nullptr;
};

template <class T>
mllm_tensor view(mllm_dtype dtype, std::vector<T>& data, const std::vector<int64_t>& dims) {
  return {nullptr,     dtype,       static_cast<int32_t>(dims.size()),
          dims.data(), data.data(), data.size() * sizeof(T)};
}

const std::vector<int64_t> kMatrix = {3, 2}, kRow = {1, 2}, kOne = {1};

TEST(inputs_stay_as_they_are) {
  // The graph overwrites a row of its first input and returns another input.
  Opened g(
      ModelBuilder()
          .input("cache", ElementType::Float, {3, 2})
          .input("row", ElementType::Int32, {1})
          .input("new", ElementType::Float, {1, 2})
          .node("ScatterUpdate", "updated", {"cache", "row", "new"})
          .node("MakeTuple", "t", {"updated", "new"})
          .output("t", {tensor("a", ElementType::Float, {3, 2}), tensor("b", ElementType::Float, {1, 2})}));
  std::vector<float> cache = {1, 2, 3, 4, 5, 6}, fresh = {8, 9};
  std::vector<int32_t> row = {1};
  const mllm_tensor inputs[] = {view(MLLM_DTYPE_FLOAT32, cache, kMatrix), view(MLLM_DTYPE_INT32, row, kOne),
                                view(MLLM_DTYPE_FLOAT32, fresh, kRow)};
  mllm_tensor outputs[2];
  for (int run = 0; run < 2; ++run) {
    CHECK_EQ(mllm_graph_run(g.graph, inputs, 3, outputs, 2), MLLM_OK);
    CHECK_EQ(static_cast<float*>(outputs[0].data)[2], 8.0f);
    CHECK_EQ(static_cast<float*>(outputs[1].data)[1], 9.0f);
    CHECK(outputs[1].data != fresh.data());
    CHECK_EQ(cache[2], 3.0f);
  }
  CHECK_EQ(std::string(outputs[1].name), "new");
  CHECK_EQ(outputs[0].nbytes, 24u);
}

TEST(shapes_of_a_dynamic_graph_are_known_per_run) {
  Opened g(ModelBuilder()
               .input("x", ElementType::Float, {-1, 2})
               .node("Add", "y", {"x", "x"})
               .output("y", {tensor("r", ElementType::Float, {-1, 2})}));
  mllm_tensor info;
  CHECK_EQ(mllm_graph_output(g.graph, 0, &info), MLLM_OK);
  CHECK_EQ(info.rank, 2);
  CHECK_EQ(info.dims[0], -1);
  const char* json = nullptr;
  CHECK_EQ(mllm_graph_describe(g.graph, &json), MLLM_OK);
  CHECK(std::string(json).find("\"operators\": {\"Add\": 1}") != std::string::npos);
  for (int64_t rows = 1; rows < 4; ++rows) {
    std::vector<float> x(static_cast<size_t>(rows) * 2, 1.5f);
    const std::vector<int64_t> dims = {rows, 2};
    const mllm_tensor input = view(MLLM_DTYPE_FLOAT32, x, dims);
    mllm_tensor output;
    CHECK_EQ(mllm_graph_run(g.graph, &input, 1, &output, 1), MLLM_OK);
    CHECK_EQ(output.dims[0], rows);
    CHECK_EQ(static_cast<float*>(output.data)[rows * 2 - 1], 3.0f);
  }
}

TEST(wrong_calls_are_refused) {
  Opened g(ModelBuilder()
               .input("x", ElementType::Float, {1, 2})
               .node("Add", "y", {"x", "x"})
               .output("y", {tensor("r", ElementType::Float, {1, 2})}));
  std::vector<float> x = {1, 2};
  const std::vector<int64_t> negative = {1, -2};
  const mllm_tensor good = view(MLLM_DTYPE_FLOAT32, x, kRow);
  mllm_tensor output;
  const auto refuses = [&](mllm_tensor bad) {
    return mllm_graph_run(g.graph, &bad, 1, &output, 1) == MLLM_ERROR_INVALID_ARGUMENT;
  };
  mllm_tensor bad = good;
  bad.dtype = MLLM_DTYPE_INT32;
  CHECK(refuses(bad));
  bad = good;
  const uint32_t unknown = 99;
  std::memcpy(&bad.dtype, &unknown, sizeof unknown);
  CHECK(refuses(bad));
  bad = good;
  bad.dims = negative.data();
  CHECK(refuses(bad));
  bad = good;
  bad.dims = nullptr;
  CHECK(refuses(bad));
  bad = good;
  bad.rank = 1000;
  CHECK(refuses(bad));
  bad = good;
  bad.nbytes = 4;
  CHECK(refuses(bad));
  bad = good;
  bad.data = nullptr;
  CHECK(refuses(bad));
  CHECK_EQ(mllm_graph_run(g.graph, &good, 2, &output, 1), MLLM_ERROR_INVALID_ARGUMENT);
  CHECK_EQ(mllm_graph_run(g.graph, &good, 1, &output, 0), MLLM_ERROR_INVALID_ARGUMENT);
  CHECK_EQ(mllm_graph_run(g.graph, nullptr, 1, &output, 1), MLLM_ERROR_INVALID_ARGUMENT);
  CHECK_EQ(mllm_graph_input(g.graph, 1, &output), MLLM_ERROR_INVALID_ARGUMENT);
  CHECK_EQ(mllm_graph_run(g.graph, &good, 1, &output, 1), MLLM_OK);
}

}  // namespace
}  // namespace mllm

TEST_MAIN()
