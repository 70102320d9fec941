import { providerContract } from '../../contract/provider-contract.ts'
import { secretForms } from '../../contract/secret-forms.ts'
import { FORMS, type Form, fileFixture } from './forms.ts'

for (const [name, form] of Object.entries<Form>(FORMS)) {
  providerContract(`file (${name})`, () => fileFixture(form), { textOnly: form.document({}) === '' })
  secretForms(`file (${name})`, () => fileFixture(form))
}
