-- Health of a PendingRevocation: a duty that is tried until it is done; then the operator deletes the object.

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

local done = map(conditions.Done)
if status.observedGeneration ~= metadata.generation or conditions.Done == nil then
  return say("Progressing", "Nobody has looked at this generation yet")
end
-- No provider object speaks for the issuer any more: only a person can go on.
if done.reason == "CredentialLost" then
  return say("Degraded", done.message)
end
if is("Done", "True") then
  return say("Healthy", done.message)
end
return say("Progressing", done.message)
