/* Stands before the system's <string.h> for every C file of the build (CPATH in .cargo/config.toml), passes it on, and
 * changes two places of the vendored Lua 5.4. Only the files that name themselves `lobject_c` and `lvm_c` see a change.
 * docs/adr/0011 says why it is done so. */
#include_next <string.h>

/* Lua 5.4 writes the float 2 as "2.0" and asks strspn(text, "-0123456789") whether to add the ".0"; scripts written for
 * Lua 5.2 expect "2". Answering 0 to just that question leaves the ".0" out, in `..`, tostring and string.format alike. */
#if defined(lobject_c) && !defined(RF_LUA_NUMBERS)
#define RF_LUA_NUMBERS
#define strspn(text, set) (__builtin_strcmp((set), "-0123456789") == 0 ? (size_t)0 : (strspn)((text), (set)))
#endif

/* No variables to be closed in scripts (`local x <close>`, the fourth value of a generic `for`): mlua clears the stack where
 * a hook raises an error, which would run their `__close` with the hook off, so that nothing could stop it. Only the two
 * uses in lvm.c, whose second argument begins with `ra`, are meant: the prototype goes through unchanged. */
#if defined(lvm_c) && !defined(RF_LUA_CLOSE)
#define RF_LUA_CLOSE
#define RF_TBC_ra ~, rf_no_tbc,
#define RF_PICK_SECOND(first, second, ...) second
#define RF_PICK(...) RF_PICK_SECOND(__VA_ARGS__, luaF_newtbcupval, ~)
#define luaF_newtbcupval(state, level) RF_PICK(RF_TBC_##level)(state, level)
#define rf_no_tbc(state, level) \
  (l_isfalse(s2v(level)) ? (void)0 : (void)luaG_runerror(state, "variables to be closed are not supported"))
#endif
