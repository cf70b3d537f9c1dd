// Names and numbers of the MindIR file format, as the importer needs them.
#ifndef MINDIR_LLM_GRAPH_FILE_TYPES_H_
#define MINDIR_LLM_GRAPH_FILE_TYPES_H_

#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.h"
#include "mindir/model.h"

namespace mllm {

inline constexpr int64_t kUnknownDim = -1;
inline const Dims kUnknownRank = {-2};

// The engine's type of a TensorProto.data_type; UNSUPPORTED starting with `where` when it has none.
DType dtype_of(int32_t element_type, const std::string& where);

const mindir::AttributeMessage* find_attribute(const std::vector<mindir::AttributeMessage>& list,
                                               std::string_view name);

// "REF::Add:1" → "Add:1", the name of a primitive, function or node; empty for other op_types.
std::string_view referenced_name(std::string_view op_type);

}  // namespace mllm

#endif  // MINDIR_LLM_GRAPH_FILE_TYPES_H_
