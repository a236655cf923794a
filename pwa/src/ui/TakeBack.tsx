/** Delete a study that the clinic does not keep yet, after a question. */

import { takeBack } from '../state/acting';
import { go, useApp } from '../state/store';
import { Asking } from './Asking';

export function TakeBack({ id, label }: { readonly id: string; readonly label: string }) {
  const { t } = useApp((state) => state.language);
  async function end(): Promise<string | null> {
    const result = await takeBack(id);
    if (result === 'taken-back') {
      go({ screen: 'home' });
      return null;
    }
    return result === 'too-late' ? 'study.takeBackLate' : 'study.takeBackFailed';
  }
  return <Asking label={label} text={t('study.takeBackText')} end={end} />;
}
