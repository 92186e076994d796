-- Health of a ClientQuarantine. Ready: every grant of the client is out of force, read back. Stalled: nothing is stopped,
-- because nobody speaks for the issuer or nothing may be written there.

-- Status and conditions may be missing or of any shape: nothing here is taken for granted.
local function map(value)
  if type(value) == "table" then return value end
  return {}
end

local function text(value)
  if type(value) == "string" then return value end
  return nil
end

local metadata, status = map(obj.metadata), map(obj.status)
local conditions = {}
for _, condition in ipairs(map(status.conditions)) do
  local name = text(map(condition).type)
  if name ~= nil then conditions[name] = condition end
end

local function is(name, value)
  return map(conditions[name]).status == value
end

local function say(health, message)
  return {status = health, message = text(message)}
end

if metadata.deletionTimestamp ~= nil then
  return say("Progressing", "Being deleted")
end

local ready = map(conditions.Ready)
if status.observedGeneration ~= metadata.generation then
  return say("Progressing", "Nobody has looked at this generation yet")
end
if is("Stalled", "True") then
  return say("Degraded", ready.message)
end
if is("Ready", "True") then
  return say("Healthy", ready.message)
end
return say("Progressing", ready.message)
