-- Patterns of one's own out of a folder of files, one built upon the other.
function Process(content, emit)
  emit("out", json_encode(grok_parse("%{JOB_LINE}", content)))
end
