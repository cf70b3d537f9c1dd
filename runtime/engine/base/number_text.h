// Numbers as text.
#ifndef MINDIR_LLM_BASE_NUMBER_TEXT_H_
#define MINDIR_LLM_BASE_NUMBER_TEXT_H_

#include <string>

namespace mllm {

// The shortest text that reads back as this number, in Python's form: "-1.0", "1e-05", "inf".
std::string number_text(double number);

}  // namespace mllm

#endif  // MINDIR_LLM_BASE_NUMBER_TEXT_H_
