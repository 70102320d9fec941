import { providerContract } from '../../contract/provider-contract.ts'
import { FORMS, type Form, fileFixture } from './forms.ts'

for (const [name, form] of Object.entries<Form>(FORMS)) {
  providerContract(`file (${name})`, () => fileFixture(form), { textOnly: form.document({}) === '' })
}
