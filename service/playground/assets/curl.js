// A call as a shell command that is safe for any id.

/** Quote text as one word of a POSIX shell. */
export const quoted = (text) => `'${text.replaceAll("'", String.raw`'\''`)}'`;

/** Write JSON in printable ASCII, so that no character controls the terminal. */
export const plain = (body) =>
  JSON.stringify(body).replace(
    /[^\x20-\x7e]/g,
    (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );

/** keyed: the call reads its key from a variable of the shell. */
export function curl(url, body, keyed) {
  const lines = [`curl -X POST ${quoted(url)}`, "-H 'Content-Type: application/json'"];
  if (keyed) lines.push('-H "Authorization: Bearer $RECSYS_API_KEY"');
  lines.push(`-d ${quoted(plain(body))}`);
  return lines.join(" \\\n  ");
}
