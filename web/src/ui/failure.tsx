/** What is shown in the page's place when it cannot begin. */

import { persistedLanguage } from "../state/appearance";
import { filled, inLanguage } from "../i18n/language";

export function Failure({ message }: { message: string }) {
  const words = inLanguage(persistedLanguage().value);
  return (
    <main class="start">
      <p role="alert">{filled(words.notStarted, { message })}</p>
      <button type="button" class="button accent" onClick={() => location.reload()}>
        <span>{words.retry}</span>
      </button>
    </main>
  );
}
