-- JSON in and out: what is not touched comes back as it was.
function Process(content, emit)
  local value, err = json_decode(content)
  if err ~= nil then
    emit("bad", err)
    return
  end
  if type(value) == "table" and value.op == "numbers" then
    local list = value.list
    list[#list + 1] = #list
    value.sum = 0
    for _, n in ipairs(list) do
      value.sum = value.sum + n
    end
    value.half = value.sum / 2
    value.big = value.big + 1
  elseif type(value) == "table" and value.op == "new" then
    value = { list = { 1, 2, 3 }, empty = {}, map = { a = 1 }, text = "\"\\\n\tü", yes = true, no = false, none = nil }
  elseif type(value) == "table" and value.op == "null" then
    value.is_nil = value.field == nil
    value.default = value.field or "none"
    value.large = value.count and value.count > 5 or false
    value.gone = nil
    value.set = json_null
    value.given = 1
    value.listed = #value.list
    json_omit(value, "left_out")
  end
  emit("good", json_encode(value))
end
