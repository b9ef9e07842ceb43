# Places between frames that an address sanitizer reports when they are touched; without one there are no such places.

from libc.stdint cimport uint8_t

cdef extern from *:
    """
    #include <stddef.h>
    #if defined(__SANITIZE_ADDRESS__)
        #define WITH_ADDRESS_SANITIZER 1
    #elif defined(__has_feature)
        #if __has_feature(address_sanitizer)
            #define WITH_ADDRESS_SANITIZER 1
        #endif
    #endif
    #ifdef WITH_ADDRESS_SANITIZER
        #include <sanitizer/asan_interface.h>
        #define GAP 16
        static inline void forbid(const void *place, size_t size) { __asan_poison_memory_region(place, size); }
        static inline void permit(const void *place, size_t size) { __asan_unpoison_memory_region(place, size); }
    #else
        #define GAP 0
        static inline void forbid(const void *place, size_t size) { (void)place; (void)size; }
        static inline void permit(const void *place, size_t size) { (void)place; (void)size; }
    #endif
    """
    const int GAP           # bytes behind each frame that nobody may touch
    void forbid(const void *place, size_t size) nogil
    void permit(const void *place, size_t size) nogil
