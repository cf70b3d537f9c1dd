// Read-only files: mapped, or read whole with a size limit.
#ifndef MINDIR_LLM_BASE_FILE_H_
#define MINDIR_LLM_BASE_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace mllm {

// A file mapped privately and read-only; a file that is mapped already is shared. Throws IO naming the file
// and the system's reason.
class MappedFile {
 public:
  static std::shared_ptr<const MappedFile> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const uint8_t> bytes() const { return {data_, size_}; }

  // Announces that a range is about to be read once, and gives its pages back at the end, so that they do not
  // count as memory of this process. Does nothing for memory that is not a mapped file's.
  class Reading {
   public:
    Reading(const void* data, size_t bytes);
    ~Reading();
    Reading(const Reading&) = delete;
    Reading& operator=(const Reading&) = delete;

   private:
    std::span<uint8_t> pages_;
  };

  // Has the system begin to read a range, while the caller goes on. Does nothing for other memory.
  static void read_ahead(const void* data, size_t bytes);
  // Gives back every page that a range touches: they count as memory of this process no longer, and come from
  // the file again when they are read. Does nothing for other memory.
  static void release(const void* data, size_t bytes);

  // The file that a range lies in, or null.
  static std::shared_ptr<const MappedFile> file_of(const void* data, size_t bytes);
  // Copies a range of this file without bringing its pages into this process: the system may map megabytes
  // around a byte that is read in place. Throws IO.
  void copy(const void* data, size_t bytes, void* to) const;

 private:
  MappedFile() = default;
  // The pages of a range: those inside of it, or all that it touches.
  static std::span<uint8_t> pages(const void* data, size_t bytes, bool outward = false);

  std::string path_;
  int fd_ = -1;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// The whole file as text; throws IO, or FORMAT when it is larger than `limit` bytes.
std::string read_file(const std::string& path, size_t limit);

// The beginning of a file of /proc or /sys, which have no size of their own: "" where there is none.
std::string system_text(const std::string& path);

// True when `relative` names something below its folder: not empty, not absolute, no "..", no NUL.
bool is_confined_path(std::string_view relative);

// "a/b/c" → "a/b"; "." when there is no slash.
std::string parent_folder(const std::string& path);

}  // namespace mllm

#endif  // MINDIR_LLM_BASE_FILE_H_
