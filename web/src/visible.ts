// Names and errors come from a model's code, which can put anything into them.

/** No shape of their own: control characters, marks that turn text around, halves of characters. Lines stay lines. */
const HIDDEN = /(?![\n\t])[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu;

/** A text with what cannot be seen in it written out, as the terminal does: "\x1b[31m", "\u202e". */
export const visible = (text: string): string => text.replace(HIDDEN, escaped);

function escaped(character: string): string {
  const code = character.codePointAt(0)!;
  if (character === "\r") return "\\r";
  const hex = (digits: number) => code.toString(16).padStart(digits, "0");
  return code < 0x100 ? `\\x${hex(2)}` : code < 0x10000 ? `\\u${hex(4)}` : `\\U${hex(8)}`;
}
