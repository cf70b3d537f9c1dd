// The messages of a MindIR file (mind_ir.proto of MindSpore), as they are in the file. Byte strings and
// tensor data stay views into the mapped file; whoever holds a Model must keep that file mapped.
#ifndef MINDIR_LLM_MINDIR_MODEL_H_
#define MINDIR_LLM_MINDIR_MODEL_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/wire.h"

namespace mllm::mindir {

// TensorProto.DataType
enum class ElementType : int32_t {
  Undefined = 0,
  Float = 1,
  UInt8 = 2,
  Int8 = 3,
  UInt16 = 4,
  Int16 = 5,
  Int32 = 6,
  Int64 = 7,
  String = 8,
  Bool = 9,
  Float16 = 10,
  Double = 11,
  UInt32 = 12,
  UInt64 = 13,
  BFloat16 = 16,
  Float64 = 17,
  QInt4x2 = 18,
};

// AttributeProto.AttributeType; element types share the numbers of UNDEFINED … BFLOAT16.
enum class AttributeType : int32_t {
  Undefined = 0,
  Float = 1,
  UInt8 = 2,
  Int8 = 3,
  UInt16 = 4,
  Int16 = 5,
  Int32 = 6,
  Int64 = 7,
  String = 8,
  Bool = 9,
  Float16 = 10,
  Double = 11,
  UInt32 = 12,
  UInt64 = 13,
  BFloat16 = 16,
  Tensor = 17,
  Graph = 18,
  Tensors = 19,
  Tuple = 20,
  List = 21,
  Dict = 22,
  UMonad = 23,
  IOMonad = 24,
  None = 25,
  Scalar = 39,
};

struct TensorMessage {
  std::string_view name;
  std::vector<int64_t> dims;
  int32_t data_type = 0;
  Bytes raw_data;
  bool has_external_data = false;
  std::string_view location;
  int64_t offset = 0;
  int64_t length = 0;
};

struct AttributeMessage {
  std::string_view name;
  int32_t type = 0;
  float f = 0;
  double d = 0;
  int64_t i = 0;
  std::string_view s;
  std::vector<float> floats;
  std::vector<double> doubles;
  std::vector<int64_t> ints;
  std::vector<std::string_view> strings;
  std::vector<TensorMessage> tensors;
  std::vector<AttributeMessage> values;
};

struct NodeMessage {
  std::string_view name;
  std::string_view op_type;
  std::vector<std::string_view> inputs;
  std::vector<std::string_view> outputs;
  std::vector<AttributeMessage> attributes;
};

struct ValueInfoMessage {
  std::string_view name;
  std::string_view denotation;
  std::vector<TensorMessage> tensors;
  std::vector<AttributeMessage> attr_info;  // at most one
};

struct GraphMessage {
  std::string_view name;
  std::vector<NodeMessage> nodes;
  std::vector<TensorMessage> parameters;
  std::vector<ValueInfoMessage> inputs;
  std::vector<ValueInfoMessage> outputs;
};

struct PrimitiveMessage {
  std::string_view name;
  std::string_view op_type;
  std::vector<AttributeMessage> attributes;
};

struct Model {
  bool little_endian = false;
  GraphMessage graph;
  std::vector<GraphMessage> functions;
  std::vector<PrimitiveMessage> primitives;
  std::map<std::string, std::string, std::less<>> user_info;
};

// Throws FORMAT. `file` is for messages.
Model parse(Bytes bytes, std::string_view file);

}  // namespace mllm::mindir

#endif  // MINDIR_LLM_MINDIR_MODEL_H_
