-- What there is beside the original's functions, in the places where scripts use it.
local cases = {}

function cases.webhook(event)
  local sent = header(event, "x-hub-signature-256")
  return sent == "sha256=" .. hmac_sha256("secret", event.body), #sha256(event.body)
end

function cases.encodings()
  return base64_encode("hello"), base64_decode("aGVsbG8"), hex_encode("AZ"), hex_decode("415A"), base64_decode("*") == nil
end

function cases.urls()
  local q = parse_query("?user=ann&tag=x&tag=two+words")
  return url_encode("a b/c"), url_decode("a%20b+c"), url_decode("a%20b+c", "form"), q.user, q.tag[2]
end

function cases.times()
  local at = time_parse("24/Nov/2026:01:00:00 +0100", "%d/%b/%Y:%H:%M:%S %z")
  return at, time_format(at), time_format(at + 0.25), time_format(at, "%Y/%m/%d"), now() - at, time_parse("no time") == nil
end

function cases.regexes()
  local m = regex_match([[(?P<user>\w+)@(\w+)]], "mail ann@example")
  local masked, count = regex_replace([[\d{12}(\d{4})]], "card 1234567812345678", "****$1")
  return m[0], m.user, m[2], masked, count, regex_match("^x", "y")
end

function cases.headers(event)
  local first, all = header(event, "X-FORWARDED-FOR")
  return first, #all, all[2], (header(event, "missing"))
end

function cases.ids()
  local a, b = uuid(), uuid("v4")
  return #a, a:sub(15, 15), b:sub(15, 15), a ~= uuid()
end

function Process(content, emit)
  local event = json_decode(content)
  local results = table.pack(cases[event.path:sub(2)](event))
  for i = 1, results.n do
    results[i] = tostring(results[i])
  end
  emit("out", table.concat(results, " ", 1, results.n))
end
