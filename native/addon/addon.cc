// The addon's entry: each class registers itself here. N-API only: check arguments, hand over to the core,
// resolve promises.
#include <napi.h>

namespace {
Napi::Object initialise(Napi::Env, Napi::Object exports) { return exports; }
}  // namespace

NODE_API_MODULE(personascope, initialise)
