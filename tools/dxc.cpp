// Microsoft's shader compiler, driven on Linux: for a list of HLSL files on standard input, one path
// a line, prints `PATH: first error` for each that does not compile.
//
//   dxc LIBRARY PROFILE [FLAG...] < paths        exit status: 0 all compile, 1 some do not, 2 no compiler
//
// The library is libdxcompiler.so, whose COM interfaces are laid out as GCC lays out classes: behind
// the three methods of IUnknown stand the two entries of its virtual destructor.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <dlfcn.h>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace {

struct InterfaceId {
  uint32_t first;
  uint16_t second, third;
  uint8_t rest[8];
};

constexpr InterfaceId kDxcCompilerClass{
    0x73e22d93, 0xe6ce, 0x47f3, {0xb5, 0xbf, 0xf0, 0x66, 0x4f, 0x39, 0xc1, 0xb0}};
constexpr InterfaceId kCompiler3{
    0x228b4687, 0x5a6a, 0x4730, {0x90, 0x0c, 0x97, 0x02, 0xb2, 0x20, 0x3f, 0x54}};
constexpr InterfaceId kOperationResult{
    0xcedb484a, 0xd4e9, 0x445a, {0xb9, 0x91, 0xca, 0x21, 0xca, 0x15, 0x7d, 0xc2}};

constexpr uint32_t kUtf8 = 65001;

class Unknown {
 public:
  virtual int32_t QueryInterface(const InterfaceId&, void**) = 0;
  virtual uint32_t AddRef() = 0;
  virtual uint32_t Release() = 0;

 protected:
  virtual ~Unknown() = default;
};

class Blob : public Unknown {
 public:
  virtual void* GetBufferPointer() = 0;
  virtual size_t GetBufferSize() = 0;
};

class OperationResult : public Unknown {
 public:
  virtual int32_t GetStatus(int32_t*) = 0;
  virtual int32_t GetResult(Blob**) = 0;
  virtual int32_t GetErrorBuffer(Blob**) = 0;
};

struct Source {
  const void* text;
  size_t size;
  uint32_t encoding;
};

class Compiler3 : public Unknown {
 public:
  virtual int32_t Compile(const Source*, const wchar_t** flags, uint32_t count, void* includes,
                          const InterfaceId&, void** result) = 0;
};

// The compiler's first error, in one line; empty if the text compiles.
std::string complaint(Compiler3& compiler, const std::string& text,
                      std::vector<const wchar_t*>& flags) {
  const Source source{text.data(), text.size(), kUtf8};
  OperationResult* result = nullptr;
  if (compiler.Compile(&source, flags.data(), static_cast<uint32_t>(flags.size()), nullptr,
                       kOperationResult, reinterpret_cast<void**>(&result)) != 0 ||
      result == nullptr) {
    return "the compiler gave no result";
  }
  std::string found;
  int32_t status = -1;
  Blob* blob = nullptr;
  if (result->GetStatus(&status) != 0 || status != 0) {
    found = "failed without a message";
    if (result->GetErrorBuffer(&blob) == 0 && blob != nullptr && blob->GetBufferSize() > 0) {
      std::istringstream lines(
          std::string(static_cast<char*>(blob->GetBufferPointer()), blob->GetBufferSize()));
      while (std::getline(lines, found) && found.find("error") == std::string::npos) {
      }
    }
  } else if (result->GetResult(&blob) != 0 || blob == nullptr || blob->GetBufferSize() == 0) {
    found = "compiled to nothing";
  }
  if (blob != nullptr) blob->Release();
  result->Release();
  return found;
}

}  // namespace

int main(int count, char** words) {
  if (count < 3) {
    std::fputs("usage: dxc LIBRARY PROFILE [FLAG...] < paths\n", stderr);
    return 2;
  }
  void* library = dlopen(words[1], RTLD_NOW);
  if (library == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 2;
  }
  using Create = int32_t (*)(const InterfaceId&, const InterfaceId&, void**);
  const auto create = reinterpret_cast<Create>(dlsym(library, "DxcCreateInstance"));
  Compiler3* compiler = nullptr;
  if (create == nullptr ||
      create(kDxcCompilerClass, kCompiler3, reinterpret_cast<void**>(&compiler)) != 0) {
    std::fprintf(stderr, "%s holds no compiler\n", words[1]);
    return 2;
  }
  std::vector<std::wstring> given{L"-E", L"main", L"-T"};
  for (int i = 2; i < count; i++) {
    const std::string word = words[i];
    given.emplace_back(word.begin(), word.end());
  }
  std::vector<const wchar_t*> flags;
  for (const auto& flag : given) flags.push_back(flag.c_str());

  int failures = 0;
  std::string path;
  while (std::getline(std::cin, path)) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    const std::string found = file ? complaint(*compiler, text.str(), flags) : "cannot be read";
    if (!found.empty()) {
      failures++;
      std::printf("%s: %s\n", path.c_str(), found.c_str());
    }
  }
  return failures > 0 ? 1 : 0;
}
