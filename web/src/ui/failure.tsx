/** What is shown in the page's place when it cannot begin. */

import { filled, inLanguage } from "../i18n/language";
import { persistedLanguage } from "../state/appearance";
import { Text } from "./text";

export function Failure({ message }: { message: string }) {
  const words = inLanguage(persistedLanguage().value);
  return (
    <main class="start">
      <p role="alert">
        <Text>{filled(words.notStarted, { message })}</Text>
      </p>
      <button type="button" class="button accent" onClick={() => location.reload()}>
        <span>{words.retry}</span>
      </button>
    </main>
  );
}
