// A call as a line that a shell takes, whatever ids stand in it.

/** Text as one word of a POSIX shell. */
export const quoted = (text) => `'${text.replaceAll("'", String.raw`'\''`)}'`;

/** JSON in printable ASCII: nothing in it moves a terminal's cursor or turns its letters around. */
export const plain = (body) =>
  JSON.stringify(body).replace(
    /[^\x20-\x7e]/g,
    (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );

/** keyed: the call needs a key, which the shell has and this page does not show. */
export function curl(url, body, keyed) {
  const lines = [`curl -X POST ${quoted(url)}`, "-H 'Content-Type: application/json'"];
  if (keyed) lines.push('-H "Authorization: Bearer $RECSYS_API_KEY"');
  lines.push(`-d ${quoted(plain(body))}`);
  return lines.join(" \\\n  ");
}
