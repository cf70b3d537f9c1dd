// Writes MindIR files for tests: protobuf messages, and a model made of named parts.
#ifndef MINDIR_LLM_MINDIR_TESTING_H_
#define MINDIR_LLM_MINDIR_TESTING_H_

#include <cstdint>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "mindir/model.h"

namespace mllm::testing {

class Message {
 public:
  Message& number(uint32_t field, uint64_t value) {
    varint(uint64_t{field} << 3);
    varint(value);
    return *this;
  }
  Message& text(uint32_t field, const std::string& value) {
    varint(uint64_t{field} << 3 | 2);
    varint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& message(uint32_t field, const Message& value) { return text(field, value.bytes_); }
  Message& fixed32(uint32_t field, float value) {
    varint(uint64_t{field} << 3 | 5);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

using mindir::AttributeType;
using mindir::ElementType;
using Shape = std::vector<int64_t>;

inline Message tensor(const std::string& name, ElementType type, const Shape& dims) {
  Message t;
  for (const int64_t d : dims) t.number(1, static_cast<uint64_t>(d));
  t.number(2, static_cast<uint64_t>(type)).text(7, name);
  return t;
}

template <class T>
Message tensor(const std::string& name, ElementType type, const Shape& dims, const std::vector<T>& data) {
  return tensor(name, type, dims)
      .text(9, std::string(reinterpret_cast<const char*>(data.data()), data.size() * sizeof(T)));
}

// A graph and the model around it. Nodes name their primitive; entries of the operator table follow.
class ModelBuilder {
 public:
  ModelBuilder& input(const std::string& name, ElementType type, const Shape& dims) {
    graph_.message(5, Message().text(1, name).message(2, tensor(name, type, dims)));
    return *this;
  }
  ModelBuilder& parameter(const Message& tensor) {
    graph_.message(3, tensor);
    return *this;
  }
  ModelBuilder& constant(const std::string& name, const Message& value) {
    graph_.message(1, constant_node(name, value));
    return *this;
  }
  ModelBuilder& ints(const std::string& name, const Shape& values) {
    Message a = attribute("value", AttributeType::Tuple);
    for (const int64_t v : values)
      a.message(17, attribute("", AttributeType::Int64).number(10, static_cast<uint64_t>(v)));
    return constant(name, a);
  }
  ModelBuilder& integer(const std::string& name, int64_t value) {
    return constant(name, attribute("value", AttributeType::Int64).number(3, static_cast<uint64_t>(value)));
  }
  ModelBuilder& node(const std::string& op, const std::string& name, const std::vector<std::string>& inputs) {
    if (primitives_.insert(op).second) model_.message(12, Message().text(1, "p:" + op).text(2, op));
    return raw_node("REF::p:" + op, name, inputs);
  }
  ModelBuilder& raw_node(const std::string& op_type, const std::string& name,
                         const std::vector<std::string>& inputs) {
    graph_.message(1, node_message(op_type, name, inputs));
    return *this;
  }
  ModelBuilder& function(const Message& graph) {
    model_.message(8, graph);
    return *this;
  }
  // One entry however many tensors it holds.
  ModelBuilder& output(const std::string& name, const std::vector<Message>& tensors) {
    Message info = Message().text(1, name);
    if (tensors.size() == 1) {
      info.message(2, tensors[0]);
    } else {
      Message types = attribute("", AttributeType::Tuple);
      for (const Message& t : tensors)
        types.message(17, attribute("", AttributeType::Tensors).message(12, t));
      info.text(4, "Tuple").message(5, types);
    }
    graph_.message(6, info);
    return *this;
  }
  std::string bytes() const { return Message(model_).message(7, Message(graph_).text(2, "main")).bytes(); }

  static Message attribute(const std::string& name, AttributeType type) {
    return Message().text(1, name).number(16, static_cast<uint64_t>(type));
  }
  static Message node_message(const std::string& op_type, const std::string& name,
                              const std::vector<std::string>& inputs) {
    Message n;
    for (const auto& i : inputs) n.text(1, i);
    return n.text(2, name).text(3, name).text(4, op_type);
  }
  static Message constant_node(const std::string& name, const Message& value) {
    return node_message("Constant", name, {}).message(5, value);
  }

 private:
  Message model_;
  Message graph_;
  std::set<std::string> primitives_;
};

}  // namespace mllm::testing

#endif  // MINDIR_LLM_MINDIR_TESTING_H_
