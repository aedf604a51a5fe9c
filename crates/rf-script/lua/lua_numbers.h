/* Included before every C file (see .cargo/config.toml). Lua 5.4 writes the float 2 as "2.0" and asks
 * strspn(text, "-0123456789") whether to add the ".0"; scripts written for Lua 5.2 expect "2". Answering 0 to just that
 * question leaves the ".0" out, in `..`, tostring and string.format alike. Nothing else asks it. See docs/adr/0011. */
#ifndef RF_LUA_NUMBERS_H
#define RF_LUA_NUMBERS_H
#if !defined(__ASSEMBLER__) && !defined(__cplusplus)
#include <string.h>
#define strspn(text, set) (__builtin_strcmp((set), "-0123456789") == 0 ? (size_t)0 : (strspn)((text), (set)))
#endif
#endif
