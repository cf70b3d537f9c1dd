// Functions that every template may call, and how arguments are bound to parameters.
#include <algorithm>
#include <cstring>
#include <ctime>
#include <map>

#include "text/template_builtins.h"
#include "text/template_context.h"
#include "text/template_strings.h"

namespace mllm::jinja {

Parameters::Parameters(Context& context, std::string callee, CallArguments& arguments,
                       std::initializer_list<const char*> names, size_t required)
    : context_(context),
      callee_(std::move(callee)),
      names_(names),
      values_(names_.size()),
      given_(names_.size()) {
  const auto& given = arguments.positional;
  if (given.size() > names_.size()) {
    context.fail(callee_ + " takes at most " + std::to_string(names_.size()) + " arguments, not " +
                 std::to_string(given.size()));
  }
  for (size_t i = 0; i < given.size(); ++i) {
    values_[i] = given[i];
    given_[i] = true;
  }
  for (const auto& [name, value] : arguments.keywords) {
    const auto found = std::ranges::find_if(names_, [&n = name](const char* one) { return n == one; });
    if (found == names_.end()) context.fail(callee_ + " has no parameter " + repr(name));
    const auto i = static_cast<size_t>(found - names_.begin());
    if (given_[i]) context.fail(callee_ + " got two values for " + repr(name));
    values_[i] = value;
    given_[i] = true;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!given_[i]) context.fail(callee_ + " lacks its argument \"" + names_[i] + "\"");
  }
}

void Parameters::fail(size_t i, const char* expected) const {
  if (values_[i].is_undefined()) context_.fail_undefined(values_[i]);
  context_.fail(callee_ + ": " + names_[i] + " must be " + expected + ", not '" + values_[i].type_name() +
                "'");
}

int64_t Parameters::integer(size_t i, int64_t otherwise) const {
  if (!given_[i]) return otherwise;
  if (!values_[i].is_integral()) fail(i, "an integer");
  return values_[i].integer();
}

const std::string& Parameters::text(size_t i) const {
  if (!values_[i].is_text()) fail(i, "text");
  return values_[i].str();
}

namespace {

// Python's sandbox refuses longer ones as well.
constexpr int64_t kMaxRange = 100'000;

Value range_function(Context& c, CallArguments& a) {
  if (!a.keywords.empty()) c.fail("range takes no keyword arguments");
  const Parameters p(c, "range", a, {"start", "stop", "step"}, 1);
  int64_t start = p.integer(0, 0), stop = 0;
  const int64_t step = p.integer(2, 1);
  if (p.has(1)) {
    stop = p.integer(1, 0);
  } else {
    stop = std::exchange(start, 0);
  }
  if (step == 0) c.fail("range: the step cannot be 0");
  constexpr int64_t kFar = int64_t{1} << 60;
  if (std::max({std::abs(std::max(start, -kFar)), std::abs(std::max(stop, -kFar)),
                std::abs(std::max(step, -kFar))}) >= kFar) {
    c.fail("range: the numbers are too large");
  }
  const int64_t distance = step > 0 ? stop - start : start - stop;
  const int64_t stride = std::abs(step);
  const int64_t count = distance <= 0 ? 0 : (distance + stride - 1) / stride;
  if (count > kMaxRange) c.fail("range: more than " + std::to_string(kMaxRange) + " numbers");
  std::vector<Value> items;
  for (int64_t i = 0; i < count; ++i) items.emplace_back(start + i * step);
  Value out = c.list(std::move(items), Sequence::Kind::Range);
  Sequence* s = out.sequence();
  s->start = start;
  s->stop = stop;
  s->step = step;
  return out;
}

// What dict() and namespace() take: a mapping or pairs, and keywords.
void fill(Context& c, Dict& out, CallArguments& a, const char* callee) {
  if (a.positional.size() > 1) c.fail(std::string(callee) + " takes at most one positional argument");
  if (!a.positional.empty()) {
    const Value& from = a.positional[0];
    if (from.is_undefined()) c.fail_undefined(from);
    if (const Dict* d = from.dict()) {
      for (const auto& [key, value] : d->entries) c.set(out, key, value);
    } else {
      for (const Value& item : c.items(from)) {
        const std::vector<Value> both = c.items(item);
        if (both.size() != 2) c.fail(std::string(callee) + " needs pairs");
        c.set(out, both[0], both[1]);
      }
    }
  }
  for (const auto& [name, value] : a.keywords) c.set(out, Value::text(name), value);
}

Value dict_function(Context& c, CallArguments& a) {
  auto out = std::make_shared<Dict>();
  fill(c, *out, a, "dict");
  return out;
}

Value namespace_function(Context& c, CallArguments& a) {
  auto* out = c.make<Namespace>();
  fill(c, out->attributes, a, "namespace");
  return out;
}

Value raise_function(Context& c, CallArguments& a) {
  const Parameters p(c, "raise_exception", a, {"message"}, 1);
  c.fail(c.str(p[0]));
}

// Years are few enough to be walked through: Template::render bounds the time.
std::tm broken_down(int64_t seconds) {
  int64_t days = seconds / 86400;
  int64_t rest = seconds % 86400;
  if (rest < 0) {
    rest += 86400;
    --days;
  }
  std::tm out{};
  out.tm_hour = static_cast<int>(rest / 3600);
  out.tm_min = static_cast<int>(rest / 60 % 60);
  out.tm_sec = static_cast<int>(rest % 60);
  out.tm_wday = static_cast<int>(((days % 7) + 11) % 7);  // 1970 began on a Thursday
  int64_t year = 1970;
  const auto is_leap = [](int64_t y) { return y % 4 == 0 && (y % 100 != 0 || y % 400 == 0); };
  while (days < 0 || days >= (is_leap(year) ? 366 : 365)) {
    if (days < 0) {
      days += is_leap(--year) ? 366 : 365;
    } else {
      days -= is_leap(year++) ? 366 : 365;
    }
  }
  out.tm_year = static_cast<int>(year - 1900);
  out.tm_yday = static_cast<int>(days);
  constexpr int kLengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  int month = 0;
  for (; month < 11; ++month) {
    const int length = kLengths[month] + (month == 1 && is_leap(year) ? 1 : 0);
    if (days < length) break;
    days -= length;
  }
  out.tm_mon = month;
  out.tm_mday = static_cast<int>(days) + 1;
  return out;
}

Value strftime_function(Context& c, CallArguments& a) {
  const Parameters p(c, "strftime_now", a, {"format"}, 1);
  const std::string& given = p.text(0);
  if (given.size() > 1000) c.fail("strftime_now: the format is longer than 1000 bytes");
  // A local time without a zone, in whole seconds: what Python puts for the rest.
  std::string format;
  for (size_t i = 0; i < given.size(); ++i) {
    if (given[i] == '\0') c.fail("strftime_now: the format contains a NUL character");
    if (given[i] == '%' && i + 1 < given.size()) {
      const char kind = given[++i];
      if (kind == 'f') {
        format += "000000";
      } else if (kind != 'z' && kind != 'Z') {
        format += '%';
        format += kind;
      }
    } else {
      format += given[i];
    }
  }
  const std::tm time = broken_down(c.local_time());
  char buffer[32768];
  const size_t n = format.empty() ? 0 : std::strftime(buffer, sizeof buffer, format.c_str(), &time);
  return c.text(std::string(buffer, n));
}

class Function : public Object {
 public:
  using Body = Value (*)(Context&, CallArguments&);
  explicit Function(Body body) : body_(body) {}
  const char* type_name() const override { return "function"; }
  bool is_callable() const override { return true; }
  Value call(Context& context, CallArguments& arguments) override { return body_(context, arguments); }

 private:
  const Body body_;
};

// joiner(", "): nothing at its first call, then the separator.
class Joiner : public Object {
 public:
  explicit Joiner(Value separator) : separator_(std::move(separator)) {}
  const char* type_name() const override { return "Joiner"; }
  bool is_callable() const override { return true; }
  Value call(Context& c, CallArguments& a) override {
    const Parameters p(c, "a joiner", a, {}, 0);
    return std::exchange(is_used_, true) ? separator_ : Value::text("");
  }

 private:
  const Value separator_;
  bool is_used_ = false;
};

// cycler("odd", "even"): current, next(), reset().
class Cycler : public Object {
 public:
  explicit Cycler(std::vector<Value> items) : items_(std::move(items)) {}
  const char* type_name() const override { return "Cycler"; }
  std::unique_ptr<Value> attribute(Context& c, const std::string& name) override {
    if (name == "current") return std::make_unique<Value>(items_[at_]);
    if (name == "next") return std::make_unique<Value>(c.make<Step>(*this, false));
    if (name == "reset") return std::make_unique<Value>(c.make<Step>(*this, true));
    return nullptr;
  }

 private:
  class Step : public Object {
   public:
    Step(Cycler& cycler, bool resets) : cycler_(cycler), resets_(resets) {}
    const char* type_name() const override { return "method"; }
    bool is_callable() const override { return true; }
    Value call(Context& c, CallArguments& a) override {
      const Parameters p(c, "a cycler", a, {}, 0);
      if (resets_) {
        cycler_.at_ = 0;
        return {};
      }
      const Value out = cycler_.items_[cycler_.at_];
      cycler_.at_ = (cycler_.at_ + 1) % cycler_.items_.size();
      return out;
    }

   private:
    Cycler& cycler_;
    const bool resets_;
  };

  const std::vector<Value> items_;
  size_t at_ = 0;
};

Value joiner_function(Context& c, CallArguments& a) {
  const Parameters p(c, "joiner", a, {"sep"}, 0);
  return c.make<Joiner>(p.has(0) ? p[0] : Value::text(", "));
}

Value cycler_function(Context& c, CallArguments& a) {
  if (a.positional.empty()) c.fail("cycler needs at least one item");
  if (!a.keywords.empty()) c.fail("cycler takes no keyword arguments");
  return c.make<Cycler>(a.positional);
}

const std::map<std::string_view, Function::Body> kFunctions = {
    {"cycler", cycler_function},         {"dict", dict_function},
    {"joiner", joiner_function},         {"namespace", namespace_function},
    {"raise_exception", raise_function}, {"range", range_function},
    {"strftime_now", strftime_function},
};

}  // namespace

Object* find_function(Context& context, const std::string& name) {
  const auto found = kFunctions.find(name);
  return found == kFunctions.end() ? nullptr : context.make<Function>(found->second);
}

}  // namespace mllm::jinja
