#include "graph/file_types.h"

#include "base/error.h"

namespace mllm {

DType dtype_of(int32_t element_type, const std::string& where) {
  using mindir::ElementType;
  switch (static_cast<ElementType>(element_type)) {
    case ElementType::Float:
      return DType::Float32;
    case ElementType::UInt8:
      return DType::UInt8;
    case ElementType::Int8:
      return DType::Int8;
    case ElementType::UInt16:
      return DType::UInt16;
    case ElementType::Int16:
      return DType::Int16;
    case ElementType::Int32:
      return DType::Int32;
    case ElementType::Int64:
      return DType::Int64;
    case ElementType::Bool:
      return DType::Bool;
    case ElementType::Float16:
      return DType::Float16;
    case ElementType::Double:
    case ElementType::Float64:
      return DType::Float64;
    case ElementType::UInt32:
      return DType::UInt32;
    case ElementType::UInt64:
      return DType::UInt64;
    case ElementType::BFloat16:
      return DType::BFloat16;
    case ElementType::QInt4x2:
      return DType::QInt4x2;
    default:
      fail_unsupported(where + ": element type " + std::to_string(element_type) + " is not supported");
  }
}

const mindir::AttributeMessage* find_attribute(const std::vector<mindir::AttributeMessage>& list,
                                               std::string_view name) {
  for (const auto& a : list) {
    if (a.name == name) return &a;
  }
  return nullptr;
}

std::string_view referenced_name(std::string_view op_type) {
  constexpr std::string_view kReference = "REF::";
  return op_type.starts_with(kReference) ? op_type.substr(kReference.size()) : std::string_view();
}

}  // namespace mllm
