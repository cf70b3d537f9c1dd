// tokenizer.json of Hugging Face's tokenizers, as far as byte-level BPE goes.
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "text/byte_level_files.h"
#include "text/merge_rules.h"

namespace mllm::text {
namespace {

class TokenizerJson {
 public:
  TokenizerJson(std::string_view content, const std::string& file)
      : content_(content), file_(file), where_(file + ": "), model_(std::make_unique<ByteLevelModel>()) {}

  std::unique_ptr<Tokenizer> read() {
    JsonReader reader(content_, file_);
    std::optional<Json> added, normalizer, pre_tokenizer, post_processor;
    bool has_model = false;
    reader.object([&](const std::string& key) {
      std::optional<Json>* const part = key == "added_tokens"     ? &added
                                        : key == "normalizer"     ? &normalizer
                                        : key == "pre_tokenizer"  ? &pre_tokenizer
                                        : key == "post_processor" ? &post_processor
                                                                  : nullptr;
      if (part) {
        *part = reader.value(where_ + "field " + key);
      } else if (key == "model" && !has_model) {
        has_model = true;
        read_model(reader);
      } else {
        reader.skip();
      }
    });
    reader.end();
    if (!has_model) fail_format(where_ + "field model: missing");
    if (added && !added->is_null()) {
      for (const Json& token : added->array())
        model_->added.push_back(
            read_added_token(token, token.at("id").integer(0, ByteLevelVocabulary::kMostIds - 1)));
    }
    if (normalizer) read_normalizer(*normalizer, 0);
    if (pre_tokenizer) read_pre_tokenizer(*pre_tokenizer, 0);
    if (!byte_level_) {
      fail_unsupported(
          where_ +
          "field pre_tokenizer: only byte-level BPE is supported; a tokenizer.model of SentencePiece "
          "can be used instead where there is one");
    }
    if (post_processor) read_post_processor(*post_processor, 0);
    return make_byte_level(std::move(model_), where_);
  }

 private:
  [[noreturn]] static void unsupported(const Json& json, const std::string& what) {
    try {
      json.fail(what + " is not supported");
    } catch (const Error& e) {
      fail_unsupported(e.what());
    }
  }

  // -- the model

  void read_model(JsonReader& reader) {
    bool has_vocab = false;
    std::optional<JsonReader> merges;
    std::optional<std::string> unknown;
    reader.object([&](const std::string& key) {
      if (key == "vocab") {
        if (has_vocab) fail_format(where_ + "field model.vocab: appears twice");
        has_vocab = true;
        reader.object([&](const std::string& spelling) {
          const auto id = static_cast<int32_t>(reader.integer(0, ByteLevelVocabulary::kMostIds - 1));
          if (!model_->vocabulary.add_spelling(spelling, id))
            fail_format(where_ + "field model.vocab: the id " + std::to_string(id) + " appears twice");
        });
        model_->vocabulary.finish(where_ + "field model.vocab: ");
      } else if (key == "merges") {
        // They name tokens, so they wait until the vocabulary has been read.
        merges = reader;
        if (has_vocab) {
          read_merges(reader);
          merges.reset();
          has_merges_ = true;
        } else {
          reader.skip();
        }
      } else {
        read_option(key, reader.value(where_ + "field model." + key), unknown);
      }
    });
    if (!has_vocab) fail_format(where_ + "field model.vocab: missing");
    if (merges) {
      read_merges(*merges);
    } else if (!has_merges_) {
      fail_unsupported(where_ + "field model.merges: missing; only byte-level BPE is supported");
    }
    if (unknown) model_->unknown = model_->vocabulary.find_spelling(*unknown);
  }

  void read_option(const std::string& key, const Json& value, std::optional<std::string>& unknown) {
    if (value.is_null()) return;
    if (key == "type") {
      if (value.string() != "BPE") unsupported(value, "the model \"" + value.string() + "\"");
    } else if (key == "dropout") {
      if (value.number() != 0) unsupported(value, "dropout");
    } else if (key == "unk_token") {
      unknown = value.string();
    } else if (key == "fuse_unk") {
      model_->fuse_unknown = value.boolean();
    } else if (key == "ignore_merges") {
      model_->ignore_merges = value.boolean();
    } else if (key == "byte_fallback") {
      if (value.boolean()) unsupported(value, "byte_fallback of a BPE model, which is not byte-level,");
    } else if (key == "continuing_subword_prefix" || key == "end_of_word_suffix") {
      if (!value.string().empty()) unsupported(value, key);
    }
  }

  void read_merges(JsonReader& reader) {
    const std::string where = where_ + "field model.merges: ";
    reader.array([&] {
      if (reader.next_kind() == '"') {
        add_merge(reader.string(), where, *model_);
        return;
      }
      std::string parts[2];
      size_t n = 0;
      reader.array([&] {
        if (n == 2) fail_format(where + "a merge of more than two tokens");
        parts[n++] = reader.string();
      });
      if (n != 2) fail_format(where + "a merge of less than two tokens");
      add_merge(parts[0], parts[1], where, *model_);
    });
  }

  // -- what happens around it

  static void check_depth(const Json& json, int depth) {
    if (depth > 8) unsupported(json, "a sequence of sequences of sequences");
  }

  void read_normalizer(const Json& json, int depth) {
    if (json.is_null()) return;
    check_depth(json, depth);
    const std::string& type = json.at("type").string();
    if (type == "Sequence") {
      for (const Json& one : json.at("normalizers").array()) read_normalizer(one, depth + 1);
    } else if (type == "NFC") {
      model_->nfc = true;
    } else {
      unsupported(json, "the normalizer \"" + type + "\"");
    }
  }

  void read_pre_tokenizer(const Json& json, int depth) {
    if (json.is_null()) return;
    check_depth(json, depth);
    const std::string& type = json.at("type").string();
    PreTokenizer& steps = model_->pre_tokenizer;
    if (byte_level_) unsupported(json, "a pre-tokenizer behind ByteLevel");
    if (type == "Sequence") {
      for (const Json& one : json.at("pretokenizers").array()) read_pre_tokenizer(one, depth + 1);
    } else if (type == "ByteLevel") {
      byte_level_ = true;
      if (flag(json, "add_prefix_space", true)) steps.add_space_prefix();
      if (flag(json, "use_regex", true))
        steps.add_split(Regex(kGpt2Pattern, where_), PreTokenizer::Keep::All);
    } else if (type == "Split") {
      read_split(json);
    } else if (type == "Digits") {
      const char* pattern = flag(json, "individual_digits", false) ? R"(\p{N})" : R"(\p{N}+)";
      steps.add_split(Regex(pattern, where_), PreTokenizer::Keep::All);
    } else {
      unsupported(json, "the pre-tokenizer \"" + type + "\"");
    }
  }

  void read_split(const Json& json) {
    const Json& pattern = json.at("pattern");
    std::string expression;
    if (const Json* regex = pattern.find("Regex")) {
      expression = regex->string();
    } else {
      for (const char c : pattern.at("String").string()) {
        if (static_cast<unsigned char>(c) < 0x80 &&
            std::string_view(R"(\^$.|?*+()[]{}-)").find(c) != std::string::npos)
          expression += '\\';
        expression += c;
      }
    }
    const std::string& behavior = json.at("behavior").string();
    const bool invert = flag(json, "invert", false);
    PreTokenizer::Keep keep = PreTokenizer::Keep::All;
    if (behavior == "Removed") {
      keep = invert ? PreTokenizer::Keep::Matches : PreTokenizer::Keep::Gaps;
    } else if (behavior != "Isolated") {
      unsupported(json.at("behavior"), "the behaviour \"" + behavior + "\"");
    }
    model_->pre_tokenizer.add_split(Regex(expression, where_ + "field pre_tokenizer: "), keep);
  }

  void read_post_processor(const Json& json, int depth) {
    if (json.is_null()) return;
    check_depth(json, depth);
    const std::string& type = json.at("type").string();
    if (type == "Sequence") {
      for (const Json& one : json.at("processors").array()) read_post_processor(one, depth + 1);
    } else if (type == "TemplateProcessing") {
      read_template(json);
    } else if (type != "ByteLevel") {  // that one changes offsets only
      unsupported(json, "the post-processor \"" + type + "\"");
    }
  }

  // Which token goes in front of a text and which behind it.
  void read_template(const Json& json) {
    bool behind = false;
    SpecialIds& special = model_->special;
    for (const Json& item : json.at("single").array()) {
      if (item.find("Sequence")) {
        if (behind) unsupported(item, "a template with the text twice");
        behind = true;
        continue;
      }
      const Json& ids = json.at("special_tokens").at(item.at("SpecialToken").at("id").string()).at("ids");
      for (const Json& one : ids.array()) {
        if (behind ? special.add_eos : special.add_bos)
          unsupported(item, "more than one token beside the text");
        const auto id = static_cast<int32_t>(one.integer(0, ByteLevelVocabulary::kMostIds - 1));
        (behind ? special.add_eos : special.add_bos) = true;
        (behind ? special.eos : special.bos) = id;
      }
    }
  }

  static bool flag(const Json& json, const char* name, bool otherwise) {
    const Json* found = json.find(name);
    return found ? found->boolean() : otherwise;
  }

  std::string_view content_;
  const std::string& file_;
  const std::string where_;
  std::unique_ptr<ByteLevelModel> model_;
  bool byte_level_ = false;
  bool has_merges_ = false;
};

}  // namespace

std::unique_ptr<Tokenizer> read_tokenizer_json(std::string_view content, const std::string& file) {
  return TokenizerJson(content, file).read();
}

}  // namespace mllm::text
