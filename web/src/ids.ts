/** Identifiers of what is made in the page. */

/** Return 128 random bits in hexadecimal; `crypto.randomUUID` is only there over https and on localhost. */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
