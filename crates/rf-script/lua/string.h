/* Stands before the system's <string.h> for every C file of the build (CPATH in .cargo/config.toml), passes it on, and
 * changes five places of the vendored Lua 5.4. Only the files that name themselves `lapi_c`, `lobject_c` and `lvm_c` see a
 * change. docs/adr/0011 says why it is done so. */
#include_next <string.h>

/* Lua 5.4 writes the float 2 as "2.0" and asks strspn(text, "-0123456789") whether to add the ".0"; scripts written for
 * Lua 5.2 expect "2". Answering 0 to just that question leaves the ".0" out, in `..`, tostring and string.format alike. */
#if defined(lobject_c) && !defined(RF_LUA_NUMBERS)
#define RF_LUA_NUMBERS
#define strspn(text, set) (__builtin_strcmp((set), "-0123456789") == 0 ? (size_t)0 : (strspn)((text), (set)))
#endif

/* Where a function of the library expects an integer, Lua 5.2 cuts a fraction off: `s:sub(1, 7 / 2)`. Lua 5.4 refuses it,
 * unless LUA_FLOORN2I says how to round. In lapi.c it is asked for only by lua_tointegerx, whose arguments are `L` and
 * `idx`, and only for what is no integer yet: towards zero is up for a negative number. The keys of tables do not ask it. */
#if defined(lapi_c) && !defined(LUA_FLOORN2I)
#define LUA_FLOORN2I (lua_tonumberx(L, idx, NULL) < 0 ? F2Iceil : F2Ifloor)
#endif

/* The second of some arguments. What begins with RF_TBC_, RF_MOD_ or RF_NUM_ stands for two where it is a name of ours, and for
 * one where the file has the function's prototype, which so goes through unchanged. */
#if defined(lvm_c) && !defined(RF_LUA_PICK)
#define RF_LUA_PICK
#define RF_PICK_SECOND(first, second, ...) second
#define RF_PICK(...) RF_PICK_SECOND(__VA_ARGS__, ~)

/* No variables to be closed in scripts (`local x <close>`, the fourth value of a generic `for`): mlua clears the stack where
 * a hook raises an error, which would run their `__close` with the hook off, so that nothing could stop it. Only the two
 * uses in lvm.c are meant, whose second argument begins with `ra`. */
#define RF_TBC_ra ~, rf_no_tbc,
#define luaF_newtbcupval(state, level) RF_PICK(RF_TBC_##level, luaF_newtbcupval)(state, level)
#define rf_no_tbc(state, level) \
  (l_isfalse(s2v(level)) ? (void)0 : (void)luaG_runerror(state, "variables to be closed are not supported"))

/* `5 % 0` is an error among the integers of Lua 5.4; in Lua 5.2 it is NaN. The two operations in lvm.c call luaV_mod with
 * `i1` and `i2`, have counted the instruction behind them as done, and write the result to `ra`: what writes a float there
 * goes on with the next instruction. */
#define RF_MOD_i1 ~, rf_mod
#define luaV_mod(state, m, n) RF_PICK(RF_MOD_##m, luaV_mod)(state, m, n)
#define rf_mod(state, m, n) \
  ({ if (l_unlikely((n) == 0)) { setfltvalue(s2v(ra), luaV_modf(state, cast_num(m), 0)); continue; } \
     (luaV_mod)(state, m, n); })

/* Where a function expects a number, a text is read as one: `math.abs("12")`. For a text of megabytes that takes long, and no
 * hook looks meanwhile: it is no number that anyone wrote. The one use in lvm.c has `result` as its second argument, and the
 * text in `st`; arithmetic and tonumber have a bound of their own (prelude/fences.lua). */
#define RF_NUM_result ~, rf_str2num,
#define luaO_str2num(text, o) RF_PICK(RF_NUM_##o, luaO_str2num)(text, o)
#define rf_str2num(text, o) (tsslen(st) > 16384 ? (size_t)0 : (luaO_str2num)(text, o))
#endif
