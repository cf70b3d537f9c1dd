#include "mindir/model.h"

namespace mllm::mindir {
namespace {

// Tuples nest once per level of a Python tuple; nothing real comes near this.
constexpr int kMaxDepth = 32;

std::string_view text(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Names end up in messages, JSON and C strings: well-formed UTF-8 (Unicode 15, table 3-7) without NUL.
bool is_clean_utf8(Bytes s) {
  size_t i = 0;
  while (i < s.size()) {
    const uint8_t lead = s[i++];
    if (lead == 0) return false;
    if (lead < 0x80) continue;
    const size_t more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
    if (lead < 0xc2 || lead > 0xf4 || s.size() - i < more) return false;
    const uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    const uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (s[i] < low || s[i] > high) return false;
    for (size_t k = 1; k < more; ++k) {
      if (s[i + k] < 0x80 || s[i + k] > 0xbf) return false;
    }
    i += more;
  }
  return true;
}

class Parser {
 public:
  explicit Parser(std::string_view file) : file_(file) {}

  Model model(Bytes bytes) const {
    Model model;
    bool has_graph = false;
    each(bytes, [&](const Field& f, WireReader& r) {
      switch (f.number) {
        case 7:
          model.graph = graph(message(f, r));
          has_graph = true;
          break;
        case 8:
          model.functions.push_back(graph(message(f, r)));
          break;
        case 10:
          model.little_endian = f.integer != 0;
          break;
        case 12:
          model.primitives.push_back(primitive(message(f, r)));
          break;
        case 14:
          user_info(message(f, r), model);
          break;
        default:
          break;
      }
    });
    if (!has_graph) fail_format(std::string(file_) + ": not a MindIR file or corrupt: it holds no graph");
    return model;
  }

 private:
  template <class F>
  void each(Bytes bytes, F&& handle) const {
    WireReader reader(bytes, file_);
    Field field;
    while (reader.next(field)) handle(field, reader);
  }

  static Bytes message(const Field& f, const WireReader& r) {
    if (f.wire_type != 2) r.corrupt("a field has the wrong type");
    return f.bytes;
  }
  static std::string_view string(const Field& f, const WireReader& r) {
    const Bytes bytes = message(f, r);
    if (!is_clean_utf8(bytes)) r.corrupt("a name is not UTF-8 text");
    return text(bytes);
  }

  // A repeated number field comes packed (one length-delimited run) or one by one.
  template <class T, class F>
  void repeated(const Field& f, const WireReader& r, std::vector<T>& out, F&& decode) const {
    if (f.wire_type != 2) {
      out.push_back(decode(f.integer));
      return;
    }
    (void)r;
    WireReader packed(f.bytes, file_);
    while (!packed.done()) {
      uint64_t raw = 0;
      if constexpr (std::is_same_v<T, float>) {
        raw = packed.fixed(4);
      } else if constexpr (std::is_same_v<T, double>) {
        raw = packed.fixed(8);
      } else {
        raw = packed.varint();
      }
      out.push_back(decode(raw));
    }
  }
  static int64_t as_int(uint64_t raw) { return static_cast<int64_t>(raw); }
  static float as_float(uint64_t raw) { return std::bit_cast<float>(static_cast<uint32_t>(raw)); }
  static double as_double(uint64_t raw) { return std::bit_cast<double>(raw); }

  TensorMessage tensor(Bytes bytes) const {
    TensorMessage t;
    each(bytes, [&](const Field& f, WireReader& r) {
      switch (f.number) {
        case 1:
          repeated(f, r, t.dims, as_int);
          break;
        case 2:
          t.data_type = static_cast<int32_t>(f.integer);
          break;
        case 7:
          t.name = string(f, r);
          break;
        case 9:
          t.raw_data = message(f, r);
          break;
        case 12:
          t.has_external_data = true;
          each(message(f, r), [&](const Field& e, WireReader& er) {
            if (e.number == 1) t.location = string(e, er);
            if (e.number == 2) t.offset = as_int(e.integer);
            if (e.number == 3) t.length = as_int(e.integer);
          });
          break;
        default:
          break;
      }
    });
    if (t.dims.size() > 16)
      fail_format(std::string(file_) + ": a tensor has " + std::to_string(t.dims.size()) + " dimensions");
    return t;
  }

  AttributeMessage attribute(Bytes bytes, int depth = 0) const {
    if (depth > kMaxDepth) fail_format(std::string(file_) + ": attributes are nested more than 32 deep");
    AttributeMessage a;
    each(bytes, [&](const Field& f, WireReader& r) {
      switch (f.number) {
        case 1:
          a.name = string(f, r);
          break;
        case 2:
          a.f = as_float(f.integer);
          break;
        case 3:
          a.i = as_int(f.integer);
          break;
        case 4:
          a.d = as_double(f.integer);
          break;
        case 5:
          a.s = text(message(f, r));
          break;
        case 8:
          repeated(f, r, a.floats, as_float);
          break;
        case 9:
          repeated(f, r, a.doubles, as_double);
          break;
        case 10:
          repeated(f, r, a.ints, as_int);
          break;
        case 11:
          a.strings.push_back(text(message(f, r)));
          break;
        case 12:
          a.tensors.push_back(tensor(message(f, r)));
          break;
        case 16:
          a.type = static_cast<int32_t>(f.integer);
          break;
        case 17:
          a.values.push_back(attribute(message(f, r), depth + 1));
          break;
        default:
          break;
      }
    });
    return a;
  }

  NodeMessage node(Bytes bytes) const {
    NodeMessage n;
    each(bytes, [&](const Field& f, WireReader& r) {
      switch (f.number) {
        case 1:
          n.inputs.push_back(string(f, r));
          break;
        case 2:
          n.outputs.push_back(string(f, r));
          break;
        case 3:
          n.name = string(f, r);
          break;
        case 4:
          n.op_type = string(f, r);
          break;
        case 5:
          n.attributes.push_back(attribute(message(f, r)));
          break;
        default:
          break;
      }
    });
    return n;
  }

  ValueInfoMessage value_info(Bytes bytes) const {
    ValueInfoMessage v;
    each(bytes, [&](const Field& f, WireReader& r) {
      switch (f.number) {
        case 1:
          v.name = string(f, r);
          break;
        case 2:
          v.tensors.push_back(tensor(message(f, r)));
          break;
        case 4:
          v.denotation = string(f, r);
          break;
        case 5:
          v.attr_info.push_back(attribute(message(f, r)));
          break;
        default:
          break;
      }
    });
    return v;
  }

  GraphMessage graph(Bytes bytes) const {
    GraphMessage g;
    each(bytes, [&](const Field& f, WireReader& r) {
      switch (f.number) {
        case 1:
          g.nodes.push_back(node(message(f, r)));
          break;
        case 2:
          g.name = string(f, r);
          break;
        case 3:
          g.parameters.push_back(tensor(message(f, r)));
          break;
        case 5:
          g.inputs.push_back(value_info(message(f, r)));
          break;
        case 6:
          g.outputs.push_back(value_info(message(f, r)));
          break;
        default:
          break;
      }
    });
    return g;
  }

  PrimitiveMessage primitive(Bytes bytes) const {
    PrimitiveMessage p;
    each(bytes, [&](const Field& f, WireReader& r) {
      switch (f.number) {
        case 1:
          p.name = string(f, r);
          break;
        case 2:
          p.op_type = string(f, r);
          break;
        case 3:
          p.attributes.push_back(attribute(message(f, r)));
          break;
        default:
          break;
      }
    });
    return p;
  }

  void user_info(Bytes bytes, Model& model) const {
    std::string_view key;
    std::string_view value;
    each(bytes, [&](const Field& f, WireReader& r) {
      if (f.number == 1) key = string(f, r);
      if (f.number == 2) value = string(f, r);
    });
    model.user_info[std::string(key)] = std::string(value);
  }

  std::string_view file_;
};

}  // namespace

Model parse(Bytes bytes, std::string_view file) {
  return Parser(file).model(bytes);
}

}  // namespace mllm::mindir
