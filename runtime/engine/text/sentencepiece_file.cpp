#include "text/sentencepiece_file.h"

#include <bit>
#include <cmath>
#include <cstdio>
#include <limits>

#include "base/error.h"
#include "base/wire.h"

namespace mllm::text {
namespace {

constexpr const char* kWhat = "a SentencePiece model";

std::string_view as_text(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Decodes one message; the handlers get every field and take those they know.
template <class F>
void each_field(Bytes bytes, const std::string& file, F&& handle) {
  WireReader reader(bytes, file, kWhat);
  for (Field field; reader.next(field);) handle(field, reader);
}

void want(const Field& field, uint32_t wire_type, const WireReader& reader) {
  if (field.wire_type != wire_type) reader.corrupt("a field has the wrong type");
}

SentencePiece read_piece(Bytes bytes, const std::string& file) {
  SentencePiece piece;
  each_field(bytes, file, [&](const Field& f, const WireReader& r) {
    if (f.number == 1) {
      want(f, 2, r);
      piece.text = as_text(f.bytes);
    } else if (f.number == 2) {
      want(f, 5, r);
      piece.score = std::bit_cast<float>(static_cast<uint32_t>(f.integer));
    } else if (f.number == 3) {
      want(f, 0, r);
      if (f.integer < 1 || f.integer > 6) r.corrupt("a piece has an unknown type");
      piece.type = static_cast<PieceType>(f.integer);
    }
  });
  return piece;
}

void read_trainer(Bytes bytes, const std::string& file, SentencePieceFile& out) {
  uint64_t algorithm = 1;
  each_field(bytes, file, [&](const Field& f, const WireReader& r) {
    switch (f.number) {
      case 3:
        want(f, 0, r);
        algorithm = f.integer;
        break;
      case 24:
        want(f, 0, r);
        out.space_is_suffix = f.integer != 0;
        break;
      case 35:
        want(f, 0, r);
        out.byte_fallback = f.integer != 0;
        break;
      case 46:
        want(f, 2, r);
        out.bos_piece = as_text(f.bytes);
        break;
      case 47:
        want(f, 2, r);
        out.eos_piece = as_text(f.bytes);
        break;
      default:
        break;
    }
  });
  if (algorithm != 1 && algorithm != 2) {
    const char* name = algorithm == 3 ? "word" : algorithm == 4 ? "character" : "unknown";
    fail_unsupported(file + ": a SentencePiece model of the " + name +
                     " kind; unigram and BPE are supported");
  }
  out.algorithm = algorithm == 2 ? SentencePieceFile::Algorithm::Bpe : SentencePieceFile::Algorithm::Unigram;
}

void read_normalizer(Bytes bytes, const std::string& file, SentencePieceFile& out) {
  each_field(bytes, file, [&](const Field& f, const WireReader& r) {
    if (f.number == 2) {
      want(f, 2, r);
      out.charsmap = as_text(f.bytes);
      return;
    }
    bool* const flag = f.number == 3   ? &out.add_dummy_prefix
                       : f.number == 4 ? &out.remove_extra_whitespaces
                       : f.number == 5 ? &out.escape_whitespaces
                                       : nullptr;
    if (!flag) return;
    want(f, 0, r);
    *flag = f.integer != 0;
  });
}

void refuse_denormalizer(Bytes bytes, const std::string& file) {
  each_field(bytes, file, [&](const Field& f, const WireReader&) {
    if (f.number == 2 && !f.bytes.empty())
      fail_unsupported(file + ": a SentencePiece model with denormalization rules");
  });
}

void check_pieces(const std::string& file, SentencePieceFile& out) {
  const auto refuse = [&](const std::string& why) {
    fail_format(file + ": not " + kWhat + " or corrupt: " + why);
  };
  if (out.pieces.empty()) refuse("it has no pieces");
  if (out.pieces.size() > std::numeric_limits<int32_t>::max()) refuse("it has too many pieces");
  out.byte_pieces.fill(-1);
  for (size_t i = 0; i < out.pieces.size(); ++i) {
    const SentencePiece& piece = out.pieces[i];
    const auto id = static_cast<int32_t>(i);
    const std::string name = "piece " + std::to_string(i);
    if (piece.text.empty()) refuse(name + " is empty");
    if (!std::isfinite(piece.score)) refuse(name + " has a score that is no number");
    if (piece.type == PieceType::Unknown) {
      if (out.unknown >= 0) refuse(name + " is a second unknown piece");
      out.unknown = id;
    }
    if (piece.type == PieceType::Byte) {
      unsigned byte = 0;
      char spelled[8] = "";
      if (std::sscanf(piece.text.c_str(), "<0x%2X>", &byte) == 1)
        std::snprintf(spelled, sizeof spelled, "<0x%02X>", byte & 0xff);
      if (piece.text != spelled) refuse(name + " stands for no byte");
      out.byte_pieces[byte & 0xff] = id;
    }
  }
  if (out.unknown < 0) refuse("it has no unknown piece");
  if (!out.byte_fallback) {
    out.byte_pieces.fill(-1);
    return;
  }
  for (const int32_t id : out.byte_pieces) {
    if (id < 0) refuse("byte_fallback is set, but there are not 256 byte pieces");
  }
}

}  // namespace

SentencePieceFile SentencePieceFile::parse(std::string_view content, const std::string& file) {
  if (content.empty()) fail_format(file + ": not a SentencePiece model: the file is empty");
  SentencePieceFile out;
  const Bytes bytes{reinterpret_cast<const uint8_t*>(content.data()), content.size()};
  each_field(bytes, file, [&](const Field& f, const WireReader& r) {
    if (f.number < 1 || f.number > 5) return;
    want(f, 2, r);
    if (f.number == 1) out.pieces.push_back(read_piece(f.bytes, file));
    if (f.number == 2) read_trainer(f.bytes, file, out);
    if (f.number == 3) read_normalizer(f.bytes, file, out);
    if (f.number == 5) refuse_denormalizer(f.bytes, file);
  });
  check_pieces(file, out);
  return out;
}

}  // namespace mllm::text
