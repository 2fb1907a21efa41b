#include "native/io/pickle.h"

#include <bit>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "native/core/error.h"
#include "native/io/byte_reader.h"
#include "native/io/json.h"

namespace personascope {
namespace {

using Kind = PickleValue::Kind;

constexpr std::size_t kMaxValues = 1'000'000;
constexpr char kOrderedDict[] = "collections.OrderedDict";

class PickleMachine {
 public:
  PickleMachine(const std::uint8_t* bytes, std::size_t size, const std::string& where,
                const std::function<bool(const std::string&)>& allowed)
      : reader_(bytes, size, where + ": pickle"), allowed_(allowed) {}

  Pickle run() {
    if (reader_.left() < 2 || reader_.u8() != 0x80) reader_.refuse("expected protocol 2 or later");
    const std::uint8_t protocol = reader_.u8();
    if (protocol < 2 || protocol > 5)
      reader_.refuse("protocol " + std::to_string(protocol) + ", expected 2 to 5");
    while (step()) {
    }
    if (reader_.left() != 0) reader_.refuse("bytes after its end");
    return std::move(pickle_);
  }

 private:
  // One opcode; false at the end of the pickle. Names of opcodes: Python's pickletools.
  bool step() {
    const std::uint8_t code = reader_.u8();
    switch (code) {
      case '.':  // STOP
        pickle_.root = pop();
        if (!stack_.empty()) reader_.refuse("values are left over");
        return false;
      case 0x95:  // FRAME
        reader_.u64();
        return true;
      case '(':  // MARK
        stack_.push_back(kMark);
        return true;
      case '0':  // POP
        if (stack_.empty()) reader_.refuse("nothing to pop");
        stack_.pop_back();
        return true;
      case 'N':
        return push({});
      case 0x88:  // NEWTRUE
      case 0x89:  // NEWFALSE
        return push_integer(code == 0x88, Kind::boolean);
      case 'K':
        return push_integer(reader_.u8());
      case 'M':
        return push_integer(reader_.u16());
      case 'J':
        return push_integer(reader_.read<std::int32_t>());
      case 0x8a:  // LONG1
        return push_long(reader_.u8());
      case 'G': {  // BINFLOAT, big-endian
        PickleValue value;
        value.kind = Kind::real;
        value.real = std::bit_cast<double>(__builtin_bswap64(reader_.u64()));
        return push(std::move(value));
      }
      case 'U':   // SHORT_BINSTRING
      case 0x8c:  // SHORT_BINUNICODE
        return push_text(reader_.u8());
      case 'T':  // BINSTRING
      case 'X':  // BINUNICODE
        return push_text(reader_.u32());
      case ']':
        return push_container(Kind::list);
      case '}':
        return push_container(Kind::dict);
      case ')':
        return push_container(Kind::tuple);
      case 't':  // TUPLE
        return push_tuple(since_mark());
      case 0x85:  // TUPLE1, TUPLE2, TUPLE3
      case 0x86:
      case 0x87:
        return push_tuple(take(code - 0x84u));
      case 'a': {  // APPEND
        const std::uint32_t item = pop();
        append(top(Kind::list, "a list"), {item});
        return true;
      }
      case 'e': {  // APPENDS
        const auto items = since_mark();
        append(top(Kind::list, "a list"), items);
        return true;
      }
      case 's': {  // SETITEM
        const auto items = take(2);
        append(top(Kind::dict, "a dictionary"), items);
        return true;
      }
      case 'u': {  // SETITEMS
        const auto items = since_mark();
        if (items.size() % 2 != 0) reader_.refuse("a key without a value");
        append(top(Kind::dict, "a dictionary"), items);
        return true;
      }
      case 'q':  // BINPUT
        memoise(reader_.u8());
        return true;
      case 'r':  // LONG_BINPUT
        memoise(reader_.u32());
        return true;
      case 0x94:  // MEMOIZE
        memoise(static_cast<std::uint32_t>(memo_.size()));
        return true;
      case 'h':  // BINGET
        return recall(reader_.u8());
      case 'j':  // LONG_BINGET
        return recall(reader_.u32());
      case 'c': {  // GLOBAL
        const auto module = reader_.line();
        const auto name = reader_.line();
        return push_global(module, name);
      }
      case 0x93: {  // STACK_GLOBAL
        const auto names = take(2);
        const PickleValue &module = pickle_[names[0]], &name = pickle_[names[1]];
        if (module.kind != Kind::text || name.kind != Kind::text) reader_.refuse("a global without a name");
        return push_global(std::string(module.text), std::string(name.text));
      }
      case 'R':  // REDUCE
        return call();
      case 'b': {  // BUILD: attributes of an object. Only those of an ordered dictionary are harmless.
        pop();
        top(Kind::dict, "an ordered dictionary");
        return true;
      }
      case 'Q': {  // BINPERSID
        PickleValue value;
        value.kind = Kind::persistent;
        value.items = {pop()};
        return push(std::move(value));
      }
      default:
        refuse_opcode(code);
    }
  }

  [[noreturn]] void refuse_opcode(std::uint8_t code) {
    char text[8];
    std::snprintf(text, sizeof text, "0x%02x", code);
    switch (code) {
      case 'i':   // INST
      case 'o':   // OBJ
      case 0x81:  // NEWOBJ
      case 0x92:  // NEWOBJ_EX
        reader_.refuse(std::string("opcode ") + text +
                       " makes an object of a class; only tensors and plain " + "values are read");
      case 0x82:  // EXT1, EXT2, EXT4
      case 0x83:
      case 0x84:
        reader_.refuse(std::string("opcode ") + text + " imports from a registry; nothing is imported");
      default:
        reader_.refuse(std::string("opcode ") + text + " is none that torch.save writes");
    }
  }

  std::uint32_t make(PickleValue value) {
    if (pickle_.values.size() == kMaxValues)
      reader_.refuse("more than " + std::to_string(kMaxValues) + " values");
    pickle_.values.push_back(std::move(value));
    return static_cast<std::uint32_t>(pickle_.values.size() - 1);
  }
  bool push(PickleValue value) {
    push_index(make(std::move(value)));
    return true;
  }
  void push_index(std::uint32_t index) {
    if (stack_.size() == kMaxValues) reader_.refuse("its stack grows too deep");
    stack_.push_back(index);
  }
  bool push_integer(std::int64_t integer, Kind kind = Kind::integer) {
    PickleValue value;
    value.kind = kind;
    value.integer = integer;
    return push(std::move(value));
  }
  // Two's complement, little-endian.
  bool push_long(std::uint8_t size) {
    const auto* bytes = reader_.skip(size);
    if (size > 8) {
      PickleValue value;
      value.kind = Kind::big;
      return push(std::move(value));
    }
    std::uint64_t integer = size > 0 && bytes[size - 1] & 0x80 ? ~std::uint64_t{0} : 0;
    for (std::size_t i = size; i-- > 0;) integer = integer << 8 | bytes[i];
    return push_integer(static_cast<std::int64_t>(integer));
  }
  bool push_text(std::uint64_t size) {
    PickleValue value;
    value.kind = Kind::text;
    value.text = reader_.text(size);
    return push(std::move(value));
  }
  bool push_container(Kind kind) {
    PickleValue value;
    value.kind = kind;
    return push(std::move(value));
  }
  bool push_tuple(std::vector<std::uint32_t> items) {
    PickleValue value;
    value.kind = Kind::tuple;
    value.items = std::move(items);
    return push(std::move(value));
  }
  bool push_global(std::string_view module, std::string_view name) {
    std::string full = std::string(module) + "." + std::string(name);
    if (full != kOrderedDict && !allowed_(full))
      reader_.refuse("it asks to import " + quoted(full) +
                     "; only tensors and plain values are read, nothing is imported");
    PickleValue value;
    value.kind = Kind::global;
    value.text = std::move(full);
    return push(std::move(value));
  }
  bool call() {
    const auto pair = take(2);
    const PickleValue &function = pickle_[pair[0]], &arguments = pickle_[pair[1]];
    if (function.kind != Kind::global || arguments.kind != Kind::tuple)
      reader_.refuse("a call of something that is no global");
    if (function.text == kOrderedDict) {
      if (!arguments.items.empty()) reader_.refuse("an ordered dictionary made with arguments");
      return push_container(Kind::dict);
    }
    PickleValue value;
    value.kind = Kind::call;
    value.text = function.text;
    value.items = arguments.items;
    copied(value.items.size());
    return push(std::move(value));
  }

  std::uint32_t pop() {
    if (stack_.empty() || stack_.back() == kMark) reader_.refuse("a value is missing");
    const std::uint32_t index = stack_.back();
    stack_.pop_back();
    return index;
  }
  // The last `count` values, in order.
  std::vector<std::uint32_t> take(std::size_t count) {
    std::vector<std::uint32_t> items(count);
    for (std::size_t i = count; i-- > 0;) items[i] = pop();
    return items;
  }
  std::vector<std::uint32_t> since_mark() {
    std::size_t first = stack_.size();
    while (first > 0 && stack_[first - 1] != kMark) --first;
    if (first == 0) reader_.refuse("a mark is missing");
    std::vector<std::uint32_t> items(stack_.begin() + static_cast<std::ptrdiff_t>(first), stack_.end());
    stack_.resize(first - 1);
    return items;
  }
  PickleValue& top(Kind kind, const char* expected) {
    if (stack_.empty() || stack_.back() == kMark || pickle_[stack_.back()].kind != kind)
      reader_.refuse(std::string("expected ") + expected + " on the stack");
    return pickle_.values[stack_.back()];
  }
  void append(PickleValue& to, const std::vector<std::uint32_t>& items) {
    copied(items.size());
    to.items.insert(to.items.end(), items.begin(), items.end());
  }
  // Items that a short opcode may copy again and again are counted.
  void copied(std::size_t items) {
    copies_ += items;
    if (copies_ > 8 * kMaxValues) reader_.refuse("its containers grow too large");
  }
  void memoise(std::uint32_t place) {
    if (stack_.empty() || stack_.back() == kMark) reader_.refuse("nothing to remember");
    memo_[place] = stack_.back();
  }
  bool recall(std::uint32_t place) {
    const auto found = memo_.find(place);
    if (found == memo_.end()) reader_.refuse("memo " + std::to_string(place) + " is empty");
    push_index(found->second);
    return true;
  }

  static constexpr std::uint32_t kMark = 0xffffffff;

  ByteReader reader_;
  const std::function<bool(const std::string&)>& allowed_;
  Pickle pickle_;
  std::vector<std::uint32_t> stack_;
  std::unordered_map<std::uint32_t, std::uint32_t> memo_;
  std::size_t copies_ = 0;
};

}  // namespace

Pickle parse_pickle(const std::uint8_t* bytes, std::size_t size, const std::string& where,
                    const std::function<bool(const std::string&)>& allowed) {
  return PickleMachine(bytes, size, where, allowed).run();
}

}  // namespace personascope
