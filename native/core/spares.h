// Scratch memory for whoever needs it next: as much of it as was ever in use at once. Kept by each thread, it
// would pile up where work wanders from thread to thread.
#pragma once
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace personascope {

template <class T>
class Spares {
 public:
  // One that nobody else has, until this ends. Its content is what the last one left.
  class Taken {
   public:
    explicit Taken(Spares& owner) : owner_(owner) {
      {
        const std::lock_guard lock(owner.mutex_);
        if (!owner.spare_.empty()) {
          one_ = std::move(owner.spare_.back());
          owner.spare_.pop_back();
        }
      }
      if (!one_) one_ = std::make_unique<T>();
    }
    ~Taken() {
      const std::lock_guard lock(owner_.mutex_);
      owner_.spare_.push_back(std::move(one_));
    }
    Taken(const Taken&) = delete;
    Taken& operator=(const Taken&) = delete;
    T& operator*() const { return *one_; }

   private:
    Spares& owner_;
    std::unique_ptr<T> one_;
  };

 private:
  std::mutex mutex_;
  // The last one given back is taken first: it may still be in a cache.
  std::vector<std::unique_ptr<T>> spare_;
};

}  // namespace personascope
