// Files and standard streams of the commands: whole files in, bytes out.
#ifndef MINDIR_LLM_CLI_FILES_H_
#define MINDIR_LLM_CLI_FILES_H_

#include <string>
#include <string_view>

namespace mllm::cli {

// Throw Failure with the path and the system's reason.
std::string read_file(const std::string& path);
std::string read_stdin();
void write_file(const std::string& path, std::string_view content);

// Throws Failure naming the first bad byte of what `source` holds. whole: otherwise one newline at the end
// belongs to the file and not to the text.
std::string as_text(std::string content, const std::string& source, bool whole);

// At once, without a buffer. write_out throws NoReader where nobody reads any more.
void write_out(std::string_view text);
void write_err(std::string_view text);

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_FILES_H_
